"""May this server run, and still?  Asks the admitter in a thread and remembers the answer for a few seconds.

Whoever wants to know the same at one time waits for one question, except across a change of what the answer rests on.
"""

from __future__ import annotations

import asyncio
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
        self._asking: dict[tuple[int, LockedKey], asyncio.Task[Any]] = {}  # by era: see ``forget``
        self._era = 0

    def fresh(self, server: LockedServer, now: float) -> bool:
        """Whether a call may go ahead without asking: the hot path."""
        known = self._fresh.get(_key(server))
        if known is None or known[0] <= now:
            return False
        if known[0] - now < EARLY_S:
            self._question(server)
        return True

    def expect(self, server: LockedServer, now: float) -> None:
        """A call is likely to come: its verdict is asked for beside it."""
        if not self.fresh(server, now):
            self._question(server)

    async def check(self, server: LockedServer) -> Any:
        """The admitted image; raises what the admitter raises, or ``ServerChanged``."""
        known = self._fresh.get(_key(server))
        if known is not None and known[0] > asyncio.get_running_loop().time():
            return known[1]
        return await asyncio.shield(self._question(server))  # a caller that gives up takes it from nobody else

    def _question(self, server: LockedServer) -> asyncio.Task[Any]:
        """The one that is being asked, or a new one; it goes on though nobody should wait for it."""
        asked = self._era, _key(server)
        task = self._asking.get(asked)
        if task is None:
            task = self._asking[asked] = asyncio.get_running_loop().create_task(self._answer(server, self._era))
            task.add_done_callback(lambda done: self._answered(asked, done))
        return task

    def _answered(self, asked: tuple[int, LockedKey], task: asyncio.Task[Any]) -> None:
        del self._asking[asked]
        if not task.cancelled():
            task.exception()  # retrieved: a no that nobody waits for is heard by the next call, which asks again

    async def _answer(self, server: LockedServer, era: int) -> Any:
        """Ask, and remember a yes; a no is forgotten with the yes before it."""
        key, asked = _key(server), asyncio.get_running_loop().time()
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
        """What verdicts rest on changed: none from before counts, nor one that is being asked for."""
        self._era += 1
        self._fresh.clear()

    async def close(self) -> None:
        """Wait for questions that are still being asked."""
        while self._asking:
            await asyncio.wait(list(self._asking.values()))


LockedKey = tuple[str, str, str, tuple[str, ...]]


def _key(server: LockedServer) -> LockedKey:
    return server.name, server.image, server.image_id, server.relaxed


def _same_image(server: LockedServer, admitted: Any) -> None:
    for part in ("image", "image_id"):
        vouched, locked = getattr(admitted, part), getattr(server, part)
        if vouched != locked:
            raise ServerChanged(
                f"{server.name}: the lock names {part} {locked}, but {vouched} is what was verified",
                remedy="look at the change and accept it: hm lock diff, hm lock update",
                server=server.name,
            )
