"""May this server's image run, now?  The full chain of ``verify.py`` once, then a cached verdict while nothing changed.

A verdict is reused only while all of this is as it was: the manifest digest the name stands for, the trust policy, the
Cedar policies, the target's facts, the list of papers in the index, and inode, size and times of every file that was
read; for 24 hours at most.  Any doubt, and the chain is walked again.  The engine is asked every time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from harbourmaster.core.canonical import canonical_digest
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.files import SECRET_MODE, file_lock, write_atomic
from harbourmaster.core.settings import Settings
from registry.oci import media
from registry.oci.layout import OciLayout
from registry.target import Target
from registry.toolset import set_digest
from registry.verify import Checked, Verifier

VERDICT_LIFE = timedelta(
    hours=24
)  # ours; a key that is withdrawn, or a vulnerability that is found, counts within a day
MAX_VERDICTS_BYTES = 16 << 20


class Audit(Protocol):
    """What is used of ``harbourmaster.core.audit.AuditLog``; either raises when a record cannot be kept."""

    def append(self, record: dict[str, Any]) -> None: ...
    def append_durably(self, record: dict[str, Any]) -> Any: ...


@dataclass(frozen=True)
class AdmittedImage:
    """``image``: manifest digest; ``image_id``: what the container is created from; ``evidence``: digest of the evidence;
    ``policies``: ids of those that decided."""

    name: str
    image: str
    image_id: str
    evidence: str
    policies: tuple[str, ...]
    cached: bool


@dataclass(frozen=True)
class AdmittedSet(AdmittedImage):
    """Several images that one server runs, each admitted by itself; ``images`` by manifest digest (registry.toolset)."""

    images: Mapping[str, AdmittedImage] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, found: Sequence[AdmittedImage]) -> AdmittedSet:
        return cls(
            name,
            image=set_digest(each.image for each in found),
            image_id=set_digest(each.image_id for each in found),
            evidence=set_digest(each.evidence for each in found),
            policies=tuple(dict.fromkeys(policy for each in found for policy in each.policies)),
            cached=all(each.cached for each in found),
            images={each.image: each for each in found},
        )


@dataclass(frozen=True)
class Verdict:
    """A yes, and what it depends on; ``files``: blob digest -> what ``stat`` said (``_files``)."""

    image: str
    config: str
    image_id: str
    evidence: str
    policies: tuple[str, ...]
    state: str
    files: dict[str, list[int]]
    expires: datetime

    @classmethod
    def parse(cls, body: Any) -> Verdict:
        """Raises ``ValueError``, ``TypeError`` or ``KeyError`` for anything but what ``as_dict`` wrote."""
        texts = {k: body[k] for k in ("image", "config", "image_id", "evidence", "state")}
        if not all(isinstance(v, str) for v in texts.values()) or not isinstance(body["files"], dict):
            raise ValueError("not a verdict")
        policies, expires = tuple(body["policies"]), datetime.fromisoformat(body["expires"])
        return cls(**texts, policies=policies, files=body["files"], expires=expires)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"expires": self.expires.isoformat(), "policies": list(self.policies)}


class Admitter:
    """
    >>> Admitter(settings, verifier, audit, lambda name: target_of(settings, name)).admit("time").image_id
    'sha256:...'
    """

    def __init__(
        self,
        settings: Settings,
        verifier: Verifier,
        audit: Audit,
        target_of: Callable[[str], Target],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._verifier, self._audit, self._target_of, self._now = verifier, audit, target_of, now
        self._verdicts = _Verdicts(settings.home / "verdicts.json")
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def admit(self, name: str, relaxed: tuple[str, ...] = ()) -> AdmittedImage:
        """Blocking.  Raises the chain's typed error after the refusal is on record; raises the audit's when it is not.

        ``relaxed``: limits of the sandbox raised beyond the entry's, ``memory_mb=1024`` each; policies decide about their
        names as about the entry's own.
        """
        with self._locks[name]:
            target: Target | None = None
            try:
                target = _with(self._target_of(name), relaxed)
                admitted = self._cached(target) or self._full(target)
            except HarbourError as e:
                self._audit.append_durably(self._refusal(name, target, e))
                raise
            record = _record(admitted)
            if admitted.cached:
                self._audit.append(record)
            else:
                self._audit.append_durably(record)
            return admitted

    def forget(self, name: str) -> None:
        """Drop the cached verdict; the next ``admit`` walks the chain."""
        self._verdicts.put(name, None)

    def _full(self, target: Target) -> AdmittedImage:
        before = self._state(target)
        checked = self._verifier.check(target, load=True)
        admitted = _admitted(target.name, checked)
        untouched = checked.blobs == _files(self._verifier.layout, list(checked.blobs))
        if untouched and before == self._state(target):
            self._remember(target, admitted, checked)
        return admitted

    def _cached(self, target: Target) -> AdmittedImage | None:
        verdict = self._verdicts.get(_verdict_key(target))
        if verdict is None or not self._stands(target, verdict):
            return None
        image_id = self._verifier.engine_image(verdict.image, verdict.config)
        if not image_id:
            self._verifier.load(verdict.image, target.name)
            image_id = self._verifier.engine_image(verdict.image, verdict.config)
        if image_id != verdict.image_id:
            return None
        return AdmittedImage(target.name, verdict.image, image_id, verdict.evidence, verdict.policies, cached=True)

    def _stands(self, target: Target, verdict: Verdict) -> bool:
        try:
            fresh = self._now() < verdict.expires <= self._now() + VERDICT_LIFE
            same = verdict.state == self._state(target) and verdict.image == self._verifier.resolve(target)
            return fresh and same and verdict.files == _files(self._verifier.layout, list(verdict.files))
        except (TypeError, OSError, HarbourError):
            return False  # and the full chain says why

    def _remember(self, target: Target, admitted: AdmittedImage, checked: Checked) -> None:
        verdict = Verdict(
            image=admitted.image,
            config=checked.evidence.config_digest,
            image_id=admitted.image_id,
            evidence=admitted.evidence,
            policies=admitted.policies,
            state=self._state(target),
            files=checked.blobs,
            expires=self._now() + VERDICT_LIFE,
        )
        self._verdicts.put(_verdict_key(target), verdict)

    def _state(self, target: Target) -> str:
        """One digest of all that a verdict depends on beside the files' own state."""
        image = self._verifier.resolve(target)
        facts = dataclasses.asdict(target.facts) | {"now": None}
        return canonical_digest(
            {
                "target": [target.name, target.tier, target.ref, facts],  # the lock was compared by resolve
                "image": image,
                "trust": self._verifier.trust.digest,
                "policies": self._verifier.policies.digest,
                "papers": _papers(self._verifier.layout, image),
            }
        )

    def _refusal(self, name: str, target: Target | None, error: HarbourError) -> dict[str, Any]:
        image = ""
        if target is not None:
            with contextlib.suppress(HarbourError):
                image = self._verifier.layout.resolve(target.ref)
        policies = error.details.get("policies")
        return {
            "kind": "admission",
            "server": target.name if target is not None else name.partition("/")[0],
            "image": image,
            "verdict": "refused",
            "code": error.code,
            "policies": list(policies) if isinstance(policies, list | tuple) else [],
        }


class _Verdicts:
    """``HM_HOME/verdicts.json``; a file that cannot be read is no verdict."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, name: str) -> Verdict | None:
        try:
            return Verdict.parse(self._read()[name])
        except (KeyError, TypeError, ValueError):
            return None

    def put(self, name: str, verdict: Verdict | None) -> None:
        with file_lock(self._path.with_suffix(".guard")):
            verdicts = self._read()
            verdicts.pop(name, None)
            if verdict is not None:
                verdicts[name] = verdict.as_dict()
            body = json.dumps({"version": 1, "verdicts": verdicts}, indent=1, sort_keys=True)
            write_atomic(self._path, body.encode(), mode=SECRET_MODE)

    def _read(self) -> dict[str, Any]:
        try:
            with self._path.open("rb") as f:
                body = json.loads(f.read(MAX_VERDICTS_BYTES))
            verdicts = body["verdicts"] if body["version"] == 1 else {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}
        return verdicts if isinstance(verdicts, dict) else {}


def _with(target: Target, relaxed: tuple[str, ...]) -> Target:
    names = {each.partition("=")[0] for each in relaxed}
    if not names:
        return target
    facts = dataclasses.replace(target.facts, relaxations=tuple(sorted({*target.facts.relaxations, *names})))
    return dataclasses.replace(target, facts=facts, relaxed=True)


def _verdict_key(target: Target) -> str:
    """A profile with relaxations of its own does not push out the verdict of those without."""
    name = target.part or target.name
    return "+".join((name, *target.facts.relaxations)) if target.relaxed else name


def _files(layout: OciLayout, digests: list[str]) -> dict[str, list[int]]:
    return {digest: layout.blobs.state(digest) for digest in digests}


def _papers(layout: OciLayout, image: str) -> list[str]:
    """What the index lists as attached to the image (or does not say what it is attached to)."""
    hinted = ((e.digest, e.annotations) for e in layout.index.read())
    return sorted({d for d, a in hinted if media.REF_NAME not in a and a.get(media.SUBJECT_HINT, image) == image})


def _admitted(name: str, checked: Checked) -> AdmittedImage:
    evidence = checked.evidence
    digest = canonical_digest(evidence.as_dict())
    return AdmittedImage(name, evidence.image, evidence.image_id, digest, checked.verdict.policies, cached=False)


def _record(admitted: AdmittedImage) -> dict[str, Any]:
    return {
        "kind": "admission",
        "server": admitted.name,
        "image": admitted.image,
        "verdict": "admitted",
        "policies": list(admitted.policies),
        "evidence": admitted.evidence,
        "cached": admitted.cached,
    }
