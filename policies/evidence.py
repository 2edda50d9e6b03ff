"""What was verified about an image: frozen facts, made by ``registry.verify``, judged by ``policies.admission``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

SignatureKind = Literal["key", "keyless", "cosign"]
Severity = Literal["none", "low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("none", "low", "medium", "high", "critical")


@dataclass(frozen=True)
class Signature:
    """Who signed.  ``key_id`` for keys; ``identity`` and ``issuer`` for certificates.

    ``integrated_time`` is the log's or the timestamp authority's time in seconds since the epoch, set only when it was
    verified.
    """

    kind: SignatureKind
    key_id: str | None = None
    identity: str | None = None
    issuer: str | None = None
    integrated_time: int | None = None

    @property
    def signer(self) -> str:
        """One line for people and for the lock: ``key sha256:..`` or ``<identity> (<issuer>)``."""
        return f"{self.identity} ({self.issuer})" if self.kind == "keyless" else f"key {self.key_id}"


@dataclass(frozen=True)
class AttestationFact:
    """A verified in-toto statement about the image; ``digest`` is that of the bundle blob."""

    predicate_type: str
    digest: str
    signature: Signature
    predicate: dict[str, Any]


@dataclass(frozen=True)
class Link:
    """One line of ``hm verify``: the step's ``name``, its ``subject``, what was ``checked``, ``by`` which rule."""

    name: str
    subject: str
    checked: str
    digest: str
    by: str


@dataclass(frozen=True)
class Vulnerabilities:
    """Known vulnerabilities at ``checked_at``; ``count`` by severity."""

    max_severity: Severity
    count: dict[str, int] = field(default_factory=dict)
    checked_at: datetime | None = None


@dataclass(frozen=True)
class Evidence:
    """All that was verified about one image: ``image`` is its manifest digest, ``image_id`` what the engine reports."""

    name: str
    tier: str
    image: str
    image_id: str
    config_digest: str
    links: tuple[Link, ...]
    signature: Signature | None
    sbom: AttestationFact | None = None
    provenance: AttestationFact | None = None
    listing: AttestationFact | None = None
    vulnerabilities: Vulnerabilities | None = None
    verified_at: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON shape for ``--json`` output; predicates are left out (they are in the bundles)."""
        body = asdict(self)
        for paper in ("sbom", "provenance", "listing"):
            if body[paper]:
                del body[paper]["predicate"]
        for holder, key in ((body, "verified_at"), (body["vulnerabilities"] or {}, "checked_at")):
            if holder.get(key):
                holder[key] = holder[key].isoformat()
        return body
