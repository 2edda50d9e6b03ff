"""All profiles of one gateway: which there are, what each serves, and what a change of lock or profiles means to them.

Pure.  ``default`` is always there.  A profile whose file could not be read is there as the error that says why.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.dynamic.overlay import Ground, bare_index
from gateway.index import build
from gateway.lock import LockedServer
from gateway.profiles.errors import ProfileInvalid, ProfileUnknown
from gateway.profiles.schema import Dynamic, Profile
from gateway.profiles.select import BUILT_IN, Selection, select
from gateway.profiles.values import Limits
from gateway.profiles.view import Seen, View

log = logging.getLogger("gateway.profiles")

Profiles = Mapping[str, Profile | ProfileInvalid]


class Views:
    """``lock``: every locked server.  ``limits``: the sandbox profile's defaults.  ``dynamic``: on in every profile.

    ``code``: there is a sandbox for clients' scripts.
    """

    def __init__(
        self,
        lock: Mapping[str, LockedServer],
        profiles: Profiles,
        server_info: dict[str, Any],
        *,
        limits: Limits | None = None,
        dynamic: bool = False,
        code: bool = False,
    ) -> None:
        self.lock = dict(lock)
        self.profiles: dict[str, Profile | ProfileInvalid] = {**BUILT_IN, **profiles}
        self._info, self._limits, self._dynamic, self._code = server_info, limits or {}, dynamic, code
        self._views: dict[str, View] = {}

    def __iter__(self) -> Iterator[View]:
        return iter(tuple(self._views.values()))

    def served(self) -> list[LockedServer]:
        """Every server as some profile runs it, the very objects that leases know."""
        found = {id(s): s for view in self._views.values() if view.looked_at for s in view.index.servers.values()}
        return list(found.values())

    def get(self, name: str) -> View:
        """Raises ``ProfileUnknown``, ``ProfileInvalid``."""
        view = self._views.get(name)
        if view is not None:
            return view
        profile = self.profiles.get(name)
        if profile is None:
            raise ProfileUnknown(f"there is no profile {name!r:.80}", remedy="see: hm profile ls")
        if isinstance(profile, ProfileInvalid):
            raise profile
        dynamic = self._dynamics(profile)
        view = self._views[name] = View(name, self._maker(name, profile, None, dynamic), dynamic)
        return view

    def update(self, lock: Mapping[str, LockedServer] | None, profiles: Profiles | None) -> None:
        """Serve these from now on; None: as before.  Servers that are as they were stay the same objects.

        A profile that cannot be read any more stays as it was.
        """
        if lock is not None:
            self.lock = {n: self.lock[n] if self.lock.get(n) == s else s for n, s in lock.items()}
        if profiles is not None:
            kept = {n: p for n, p in self.profiles.items() if isinstance(profiles.get(n), ProfileInvalid)}
            self.profiles = {**BUILT_IN, **profiles, **kept}
        for name, view in tuple(self._views.items()):
            profile = self.profiles.get(name)
            if not isinstance(profile, Profile):
                del self._views[name]
                profile = Profile()  # whoever still holds it sees nothing at all
            dynamic = self._dynamics(profile)
            view.replace(self._maker(name, profile, view.seen if view.looked_at else None, dynamic), dynamic)

    def ground(self, view: View) -> Ground | None:
        """What clients of a dynamic profile add to; None where the profile is not dynamic."""
        return self._ground(view.name, view.seen.selection, view.dynamic) if view.dynamic is not None else None

    def _ground(self, name: str, found: Selection, dynamic: Dynamic) -> Ground:
        return Ground(name, found, dynamic, self.lock, self._limits, self._code)

    def _dynamics(self, profile: Profile) -> Dynamic | None:
        return profile.dynamics or (Dynamic() if self._dynamic else None)

    def _maker(self, name: str, profile: Profile, before: Seen | None, dynamic: Dynamic | None) -> Callable[[], Seen]:
        return functools.partial(self._see, name, profile, before, dynamic)

    def _see(self, name: str, profile: Profile, before: Seen | None, dynamic: Dynamic | None) -> Seen:
        found = select(name, profile, self.lock, self._limits)
        for absent in found.absent:
            log.warning("profile %s names %s, which is not in the lock; see: hm server ls", name, absent)
        for server, problem in found.problems.items():
            log.warning("profile %s: %s cannot run: %s [%s]", name, server, problem.message, problem.code)
        old = before.selection.servers if before is not None else {}
        found.servers.update({n: old[n] for n, s in found.servers.items() if old.get(n) == s})
        if dynamic is not None:
            return Seen(found, bare_index(self._ground(name, found, dynamic), self._info))
        return Seen(found, build(found.servers, self._info, visible=found.visible, problems=found.problems))
