"""May this server run, and still?  Asks the admitter in a thread and remembers the answer for a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.errors import ServerChanged
from gateway.limits import LIMITS
from gateway.lock import LockedServer
from gateway.profiles.errors import OverrideRefused

Admit = Callable[[str], Any]  # registry.admit.Admitter.admit: blocking; raises when refused
AdmitRelaxed = Callable[[str, tuple[str, ...]], Any]  # as much, with these limits beyond the entry's


class Admissions:
    """The admitter keeps its own verdicts (by digest, policy version and the blobs' stat); this only spares the thread."""

    def __init__(self, admit: Admit, relaxed: AdmitRelaxed | None = None) -> None:
        """``relaxed``: None refuses whatever asks for more than its entry."""
        self._admit = admit
        self._relaxed = relaxed
        self._fresh: dict[LockedKey, tuple[float, Any]] = {}

    def fresh(self, server: LockedServer, now: float) -> bool:
        """Whether a call may go ahead without asking: the hot path."""
        known = self._fresh.get(_key(server))
        return known is not None and known[0] > now

    async def check(self, server: LockedServer) -> Any:
        """The admitted image; raises what the admitter raises, or ``ServerChanged``."""
        loop = asyncio.get_running_loop()
        key = _key(server)
        known = self._fresh.get(key)
        if known is not None and known[0] > loop.time():
            return known[1]
        self._fresh.pop(key, None)
        admitted = await asyncio.to_thread(self._ask, server)
        _same_image(server, admitted)
        self._fresh[key] = (loop.time() + LIMITS.admission_recheck_s, admitted)
        return admitted

    def _ask(self, server: LockedServer) -> Any:
        relaxed = server.relaxed
        if not relaxed:
            return self._admit(server.name)
        if self._relaxed is None:
            raise OverrideRefused(
                f"{server.name} may not have more {', '.join(relaxed)} than its entry says here",
                remedy="take the limits out of the profile",
                server=server.name,
            )
        return self._relaxed(server.name, relaxed)

    def forget(self) -> None:
        self._fresh.clear()


LockedKey = tuple[str, str, tuple[str, ...]]


def _key(server: LockedServer) -> LockedKey:
    return server.name, server.image, server.relaxed


def _same_image(server: LockedServer, admitted: Any) -> None:
    for part in ("image", "image_id"):
        vouched, locked = getattr(admitted, part), getattr(server, part)
        if vouched != locked:
            raise ServerChanged(
                f"{server.name}: the lock names {part} {locked}, but {vouched} is what was verified",
                remedy="look at the change and accept it: hm lock diff, hm lock update",
                server=server.name,
            )
