"""May this server run, and still?  Asks the admitter in a thread and remembers the answer for a few seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from gateway.errors import ServerChanged
from gateway.limits import LIMITS
from gateway.lock import LockedServer
from gateway.profiles.errors import OverrideRefused

EARLY_S: Final = 5.0  # before a verdict expires, the first call has it renewed

Admit = Callable[[str], Any]  # registry.admit.Admitter.admit: blocking; raises when refused
AdmitRelaxed = Callable[[str, tuple[str, ...]], Any]  # as much, with these limits beyond the entry's


class Admissions:
    """The admitter keeps its own verdicts (by digest, policy version and the blobs' stat); this only spares the thread."""

    def __init__(self, admit: Admit, relaxed: AdmitRelaxed | None = None) -> None:
        """``relaxed``: None refuses whatever asks for more than its entry."""
        self._admit = admit
        self._relaxed = relaxed
        self._fresh: dict[LockedKey, tuple[float, Any]] = {}
        self._asking: dict[LockedKey, asyncio.Task[None]] = {}
        self._era = 0

    def fresh(self, server: LockedServer, now: float) -> bool:
        """Whether a call may go ahead without asking: the hot path."""
        known = self._fresh.get(_key(server))
        if known is None or known[0] <= now:
            return False
        if known[0] - now < EARLY_S:
            self._ask_early(server)
        return True

    def expect(self, server: LockedServer, now: float) -> None:
        """A call is likely to come: its verdict is asked for beside it."""
        if not self.fresh(server, now):
            self._ask_early(server)

    def _ask_early(self, server: LockedServer) -> None:
        """A verdict about to expire is asked for anew beside the calls that still rest on it, so that none of them waits."""
        key = _key(server)
        if key not in self._asking:
            task = asyncio.get_running_loop().create_task(self._renew(server))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._asking.pop(key, None))

    async def _renew(self, server: LockedServer) -> None:
        with contextlib.suppress(Exception):  # the next call asks again, waits, and gets to hear it
            await self._answer(server)

    async def check(self, server: LockedServer) -> Any:
        """The admitted image; raises what the admitter raises, or ``ServerChanged``."""
        loop = asyncio.get_running_loop()
        key = _key(server)
        known = self._fresh.get(key)
        if known is not None and known[0] > loop.time():
            return known[1]
        return await self._answer(server)

    async def _answer(self, server: LockedServer) -> Any:
        """Ask, and remember a yes; a no is forgotten with the yes before it."""
        key = _key(server)
        asked, era = asyncio.get_running_loop().time(), self._era
        try:
            admitted = await asyncio.to_thread(self._ask, server)
            _same_image(server, admitted)
        except BaseException:
            self._fresh.pop(key, None)
            raise
        if era == self._era:  # else it was asked before what it rests on changed
            self._fresh[key] = (asked + LIMITS.admission_recheck_s, admitted)
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
        self._era += 1
        self._fresh.clear()

    async def close(self) -> None:
        """Wait for questions that are still being asked."""
        if self._asking:
            await asyncio.wait(list(self._asking.values()))


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
