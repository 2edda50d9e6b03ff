"""Starter servers, admitted: one way for a server with one image and for one whose tools have images of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.lock import LockedServer
from harbourmaster.core.settings import Settings
from harbourmaster.up.locking import as_approved, line_of, run_of
from policies.policy_set import PolicySet
from policies.trust import TrustPolicy
from registry.admit import AdmittedImage, AdmittedSet, Admitter, Audit
from registry.oci.layout import OciLayout
from registry.schema import Entry
from registry.target import Target
from registry.toolset import is_toolset, parts
from registry.verify import Checked, OnLink, Verifier
from sandbox.engine import Engine
from sandbox.profile import Profile


class _Witness(Verifier):
    """Keeps what it verified, so that the lock is written from the very evidence that admitted the image."""

    seen: dict[str, Checked]

    def check(
        self, target: Target, *, deep: bool = False, load: bool = False, on_link: OnLink | None = None
    ) -> Checked:
        checked = super().check(target, deep=deep, load=load, on_link=on_link)
        self.seen[target.part or target.name] = checked
        return checked


class Desk:
    """``target_of``: what is to be verified of a name, a server's or a part's (``registry.toolset``)."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        lock: Mapping[str, LockedServer],
        audit: Audit,
        target_of: Callable[[str], Target],
    ) -> None:
        layout = OciLayout(settings.oci_dir)
        self._verifier = _Witness(layout, engine, TrustPolicy.load(settings), PolicySet.load(settings))
        self._verifier.seen = {}
        self._admitter = Admitter(settings, self._verifier, audit, target_of)
        self._lock, self._profile = lock, Profile.load().digest

    def admit(self, entry: Entry, *, fresh: bool) -> tuple[AdmittedImage, LockedServer | None]:
        """All of its images or none, and its new line for the lock: None when the old one stands.  Raises the chain's error."""
        names = tuple(parts(entry)) if is_toolset(entry) else (entry.name,)
        found = {name: self._admitter.admit(name) for name in names}
        before = self._lock.get(entry.name)
        seen = self._verifier.seen
        if not seen.keys() & found.keys() and before is not None and self._stands(before, entry, found):
            return _together(entry, found), None
        for name in found.keys() - seen.keys():  # a cached verdict, but no line in the lock: walk the chain again
            self._admitter.forget(name)
            found[name] = self._admitter.admit(name)
        evidence = {name: seen[name].evidence for name in names}
        line = line_of(entry, evidence, profile_digest=self._profile, enabled=not entry.needs_configuration)
        return _together(entry, found), as_approved(line, before, fresh=fresh)

    def _stands(self, line: LockedServer, entry: Entry, found: Mapping[str, AdmittedImage]) -> bool:
        now = _together(entry, found)
        run = run_of(entry, {name: image.image for name, image in found.items()})
        return (line.image, line.image_id, line.profile, line.run) == (now.image, now.image_id, self._profile, run)


def _together(entry: Entry, found: Mapping[str, AdmittedImage]) -> AdmittedImage:
    return AdmittedSet.of(entry.name, list(found.values())) if is_toolset(entry) else found[entry.name]
