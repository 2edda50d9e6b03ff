"""What was verified about an image as one signed in-toto statement, which anyone can check offline.  Pure but for the key.

A SLSA Verification Summary Attestation (https://slsa.dev/spec/v1.0/verification_summary) with one member more, ``harbourmaster``:
the chain link by link and the papers' own bundles.  Whoever reads it need not take the summary's word: each bundle inside is
verified again, against their own trust.  Its bytes are not the image's: those are checked where they lie (``hm verify NAME``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from harbourmaster.core.digests import is_digest, sha256
from policies.bundles import sign_statement, verify_bundle
from policies.evidence import Evidence, Link
from policies.keys import SigningKey
from policies.statements import LISTING, PROVENANCE, SBOM, SIGNATURE, predicate_is, statement
from policies.trust import TrustPolicy
from registry.attached import missing
from registry.errors import SummaryInvalid

VERIFICATION_SUMMARY = "https://slsa.dev/verification_summary/v1"
VERIFIER_ID = "https://harbourmaster.dev/verifier/v1"
SLSA_VERSION = "1.0"
MAX_BYTES = 128 << 20  # four bundles of at most 16 MiB, base64 within base64

_KINDS = {"signature": SIGNATURE, "sbom": SBOM, "provenance": PROVENANCE, "listing": LISTING}
OnLink = Callable[[Link], None]


@dataclass(frozen=True)
class Summary:
    """A statement that stands: ``links`` is what was checked now, not what it says was checked then."""

    name: str
    tier: str
    image: str
    verified_at: str
    links: tuple[Link, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def summarise(evidence: Evidence, bundles: dict[str, bytes], policy_set: str, key: SigningKey) -> bytes:
    """The bundle.  ``bundles``: each paper's own, by ``signature``, ``sbom``, ``provenance`` or ``listing``."""
    when = (evidence.verified_at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    predicate = {
        "verifier": {"id": VERIFIER_ID},
        "timeVerified": when,
        "resourceUri": f"pkg:oci/{evidence.name}@{evidence.image}",
        "policy": {"uri": "urn:harbourmaster:policy-set", "digest": {"sha256": policy_set.removeprefix("sha256:")}},
        "inputAttestations": [
            {"uri": f"urn:harbourmaster:paper:{name}", "digest": {"sha256": sha256(data).removeprefix("sha256:")}}
            for name, data in sorted(bundles.items())
        ],
        "verificationResult": "PASSED",
        "verifiedLevels": ["SLSA_BUILD_LEVEL_1" if evidence.provenance else "SLSA_BUILD_LEVEL_0"],
        "slsaVersion": SLSA_VERSION,
        "harbourmaster": {
            "name": evidence.name,
            "tier": evidence.tier,
            "image": evidence.image,
            "config": evidence.config_digest,
            "links": [asdict(link) for link in evidence.links],
            "papers": {name: base64.b64encode(data).decode() for name, data in sorted(bundles.items())},
        },
    }
    return sign_statement(statement(evidence.name, evidence.image, VERIFICATION_SUMMARY, predicate), key)


def check(raw: bytes, trust: TrustPolicy, *, offline: bool = True, on_link: OnLink | None = None) -> Summary:
    """Verify the statement and every paper in it; raises the first error of the chain, or ``SummaryInvalid``.

    The statement's own signer must be one that the trust policy names for this server and tier, as must each paper's.
    """
    links: list[Link] = []

    def say(name: str, subject: str, checked: str, digest: str, by: str) -> None:
        links.append(Link(name, subject, checked, digest, by))
        if on_link:
            on_link(links[-1])

    claimed = _claims(raw)
    name, tier, image = (str(claimed[key]) for key in ("name", "tier", "image"))
    requirement = trust.for_server(name, tier)
    requirement = replace(requirement, refresh=False) if offline else requirement
    whole = verify_bundle(raw, requirement, trusted_root=None, artifact=image)
    assert whole.statement is not None  # a bundle with a statement, or verify_bundle had raised
    predicate_is(whole.statement, VERIFICATION_SUMMARY)
    rule = f"trust rule {requirement.rule!r}"
    say("statement", name, f"signed by {whole.signature.signer}; its subject is {image}", sha256(raw), rule)
    for paper, data in _papers(claimed).items():
        verified = verify_bundle(data, requirement, trusted_root=None, artifact=image)
        if verified.statement is not None:
            predicate_is(verified.statement, _KINDS[paper])
        elif paper != "signature":
            raise _invalid(f"its {paper} is no statement")
        say(paper, image, f"signed by {verified.signature.signer}; its subject is this image", sha256(data), rule)
    when = str(whole.statement["predicate"].get("timeVerified", ""))
    return Summary(name, tier, image, when, tuple(links))


def _claims(raw: bytes) -> dict[str, Any]:
    """What the statement says of itself, before anything is verified: only to know which rule to verify it by."""
    from policies import envelopes, statements

    if len(raw) > MAX_BYTES:
        raise _invalid(f"it has over {MAX_BYTES} bytes")
    content = envelopes.parse(raw).content
    if not isinstance(content, envelopes.Envelope):
        raise _invalid("it signs bytes, not a statement")
    body = statements.parse(content.payload)
    predicate_is(body, VERIFICATION_SUMMARY)
    ours = body.get("predicate", {}).get("harbourmaster")
    if not isinstance(ours, dict) or not all(isinstance(ours.get(k), str) for k in ("name", "tier", "image")):
        raise _invalid("it does not name server, tier and image")
    if not is_digest(ours["image"]) or body["predicate"].get("verificationResult") != "PASSED":
        raise _invalid("it speaks of no image, or of one that did not pass")
    return ours


def _papers(claimed: dict[str, Any]) -> dict[str, bytes]:
    """The bundles inside; at least those without which nothing of that tier is admitted."""
    said = claimed.get("papers")
    if not isinstance(said, dict) or not said.keys() <= _KINDS.keys():
        raise _invalid("it does not bring papers of the kinds that there are")
    needed = ("sbom", "provenance", "listing") if claimed["tier"] == "built" else ("sbom",)
    for name in needed:
        if name not in said:
            raise missing(_KINDS[name], str(claimed["image"]))
    try:
        return {name: base64.b64decode(str(text), validate=True) for name, text in said.items()}
    except (binascii.Error, ValueError) as e:
        raise _invalid("a paper in it is not base64") from e


def _invalid(why: str) -> SummaryInvalid:
    return SummaryInvalid(f"this is no evidence statement: {why}", remedy="export it anew: hm evidence export NAME")
