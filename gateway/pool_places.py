"""Places for sandboxes: so many in all, so many of one server.  Who finds none waits in turn, and not for ever.

One event loop owns it.  A place is held from before a sandbox starts until it is gone.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import TooManySandboxes


@dataclass(frozen=True, slots=True)
class Caps:
    """``queue``: how many may wait, each for ``wait_s`` at the most."""

    total: int
    per_server: int
    queue: int
    wait_s: float


@dataclass(eq=False, slots=True)
class _Waiter:
    server: str
    ready: asyncio.Future[None]


class Places:
    """``make_room(server)`` begins to end one idle sandbox (of ``server``, or with None of any); False when none is idle."""

    def __init__(self, caps: Caps, make_room: Callable[[str | None], bool]) -> None:
        self.caps = caps
        self.held: Counter[str] = Counter()
        self.queued = 0  # counters, for people to see
        self.refused = 0
        self._make_room = make_room
        self._waiting: deque[_Waiter] = deque()
        self._ending: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        return self.held.total()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def room(self, server: str) -> int:
        """How many more of ``server`` fit now."""
        return max(0, min(self.caps.total - self.taken, self.caps.per_server - self.held[server]))

    def take_now(self, server: str) -> bool:
        """A place, if there is one that nobody waits for."""
        if self._waiting or not self.room(server):
            return False
        self.held[server] += 1
        return True

    async def take(self, server: str) -> None:
        """A place, at once or in turn.  Raises ``TooManySandboxes``."""
        if self.room(server) and not any(self.room(w.server) for w in self._waiting):
            self.held[server] += 1
            return
        if len(self._waiting) >= self.caps.queue:
            raise self._refusal(server, f"{self.caps.queue} calls wait for one already")
        waiter = _Waiter(server, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self.queued += 1
        self.press()
        try:
            async with asyncio.timeout(self.caps.wait_s):
                await waiter.ready
        except TimeoutError:
            if not _granted(waiter):
                raise self._refusal(server, f"none became free within {self.caps.wait_s:g} s") from None
        except asyncio.CancelledError:
            if _granted(waiter):
                self.free(server)
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def live(self) -> Counter[str]:
        """The places whose sandboxes are not ending."""
        return self.held - self._ending

    def ending(self, server: str) -> None:
        """The sandbox in one of ``server``'s places has begun to end; ``free`` follows."""
        self._ending[server] += 1

    def free(self, server: str, *, ended: bool = False) -> None:
        """``ended``: ``ending`` announced it."""
        self._ending[server] -= ended
        self.held[server] -= 1
        if self.held[server] <= 0:
            del self.held[server]
        self._grant()

    def press(self) -> None:
        """Make room for those who wait, as far as anything is idle."""
        self._grant()
        for waiter in list(self._waiting)[self._ending.total() :]:
            full = self.held[waiter.server] >= self.caps.per_server
            if not self._make_room(waiter.server if full else None) and not full:
                return

    def _grant(self) -> None:
        for waiter in list(self._waiting):
            if self.room(waiter.server):
                self._waiting.remove(waiter)
                if not waiter.ready.done():
                    self.held[waiter.server] += 1
                    waiter.ready.set_result(None)

    def _refusal(self, server: str, why: str) -> TooManySandboxes:
        self.refused += 1
        of_one = self.held[server] >= self.caps.per_server
        full = f"all {self.caps.per_server} sandboxes of {server}" if of_one else f"all {self.caps.total} sandboxes"
        setting = "max_sandboxes_per_server" if of_one else "max_sandboxes"
        return TooManySandboxes(f"{full} are in use, and {why}", remedy=f"try again in a moment, or raise {setting}")


def _granted(waiter: _Waiter) -> bool:
    return waiter.ready.done() and not waiter.ready.cancelled()
