"""Spare sandboxes: started, greeted and compared with their lock before anyone asks; each is given away once.

A spare belongs to nobody, so it has no state; whoever gets one keeps it until it is destroyed.  Admission is asked when a
spare is made and again when it is given away.  One event loop owns all state; `tick` decides, from recent use.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.lock import LockedServer
from gateway.pins import Report, unreported
from gateway.pool_demand import Demand, Footprints, Want, share_out
from gateway.pool_habits import Habits
from gateway.pool_lease import fingerprint, same_line
from gateway.pool_places import Places
from gateway.pool_promise import Nobody, Promise
from gateway.upstream import Peer, SandboxStarter, Upstream
from harbourmaster.core.errors import HarbourError

log = logging.getLogger("gateway.pool")

STARTING: Final = 2  # spares made at one time; more would keep the machine from those who wait for an answer
KINDS: Final = 512  # kinds of sandbox whose use is remembered

Admit = Callable[[LockedServer], Awaitable[Any]]
Kind = tuple[str, str, str]  # server, what its line in the lock says, promise


@dataclass(slots=True)
class _Known:
    """A kind that was used: what is needed to make another of it.  ``shy``: it asks its client things at once."""

    server: LockedServer
    promise: Promise
    demand: Demand
    shy: bool = False


@dataclass(eq=False, slots=True)
class Spare:
    kind: Kind
    server: LockedServer
    upstream: Upstream
    nobody: Nobody
    made: float
    admitted: Any = None
    stamp: Any = None
    ready: bool = False
    task: asyncio.Task[None] | None = None


async def unstamped(server: LockedServer) -> Any:
    """For starts that depend on nothing but the image."""


class Pool:
    """``stamp``: what beside the image a start depends on (secrets); ``most``: spares of one kind; ``idle_s``: how long after its last use a kind has spares."""

    def __init__(
        self,
        *,
        starter: SandboxStarter,
        admit: Admit,
        stamp: Admit,
        places: Places,
        footprints: Footprints,
        counters: Counter[str],
        idle_s: float,
        start_timeout_s: float,
        most: int,
        report: Report = unreported,
        habits: Habits | None = None,
    ) -> None:
        self._starter, self._admit, self._stamp, self._report = starter, admit, stamp, report
        self._places, self._footprints, self._counters = places, footprints, counters
        self._idle_s, self._start_timeout_s, self._most = idle_s, start_timeout_s, most
        self._known: dict[Kind, _Known] = {}
        self.habits = habits or Habits()
        self._spares: set[Spare] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def __iter__(self) -> Iterator[Spare]:
        return iter(tuple(self._spares))

    # -- what was used

    def used(self, server: LockedServer, promise: Promise, now: float) -> None:
        """Someone needs a sandbox of this kind."""
        if not self._may_wait(server):
            return
        self._know(server, promise).demand.used(now)
        self.habits.note(promise.key, server.name)

    def expect(self, promise: Promise, servers: Mapping[str, LockedServer], now: float) -> list[LockedServer]:
        """A client came that promises this: what such a client used last, of ``servers``, is made ready for it."""
        expected = []
        for name in self.habits.of(promise.key):
            server = servers.get(name)
            if server is not None and self._may_wait(server):
                self._know(server, promise).demand.expected(now)
                expected.append(server)
        return expected

    def _may_wait(self, server: LockedServer) -> bool:
        """Not what runs elsewhere: nobody is called before somebody asks.  Not what has secrets, if none can tell whether
        they are still the same."""
        if server.remote or server.parts:  # a tool image's sandbox is made of its call's arguments
            return False
        return not (server.run.get("secrets") and self._stamp is unstamped)

    def _know(self, server: LockedServer, promise: Promise) -> _Known:
        kind = _kind(server, promise)
        known = self._known.pop(kind, None) or _Known(server, promise, Demand())
        self._known[kind] = known  # the latest last
        while len(self._known) > KINDS:
            del self._known[next(iter(self._known))]
        return known

    def keep_only(self, lock: Mapping[str, LockedServer]) -> None:
        """The lock changed: what is not in it as it was has no spares."""
        for kind, known in tuple(self._known.items()):
            if not same_line(known.server, lock):
                del self._known[kind]
        for spare in tuple(self._spares):
            if not same_line(spare.server, lock):
                self.drop(spare)

    def drop_server(self, name: str) -> None:
        """It may not run any more."""
        for spare in tuple(self._spares):
            if spare.server.name == name:
                self.drop(spare)

    # -- giving away

    async def take(
        self, server: LockedServer, peer: Peer, promise: Promise, admitted: Any, stamp: Any
    ) -> Upstream | None:
        """A sandbox that was greeted with ``promise``, now ``peer``'s, with its place; None when there is none.

        One that is being made already is waited for.
        """
        kind = _kind(server, promise)
        for spare in sorted((s for s in self._spares if s.kind == kind), key=lambda s: not s.ready):
            self._spares.discard(spare)
            if not spare.ready and spare.task is not None:
                try:
                    await asyncio.shield(spare.task)
                except asyncio.CancelledError:
                    self._end(spare)
                    raise
            if not spare.ready or spare.upstream.ended is not None or not _same(spare, admitted, stamp):
                self._end(spare)
                continue
            spare.upstream.server = server  # the same in all that counts; leases know theirs by identity
            spare.nobody.hand_over(spare.upstream, peer)
            return spare.upstream
        return None

    # -- making and ending

    def tick(self, now: float, room_mb: float) -> None:
        """Make the spares that recent use is worth, within ``room_mb`` beyond those there are; end the others."""
        if self._closed:
            return
        for spare in tuple(self._spares):
            self._inspect(spare, now)
        have = Counter(spare.kind for spare in self._spares)
        targets = self._targets(now, room_mb)
        for kind, count in targets.items():
            for _ in range(count - have[kind]):
                if sum(not spare.ready for spare in self._spares) >= STARTING:
                    break
                self._begin(kind, now)
        for spare in sorted(self._spares, key=lambda s: s.made):
            if have[spare.kind] > targets.get(spare.kind, 0):
                have[spare.kind] -= 1
                self._counters["spares_dropped"] += 1
                self.drop(spare)

    def _targets(self, now: float, room_mb: float) -> dict[Kind, int]:
        wants = [
            Want(
                kind, k.demand.wanted(now, self._idle_s, self._most), k.demand.last, self._footprints.of(k.server.name)
            )
            for kind, k in self._known.items()
        ]
        mine = sum(self._footprints.of(spare.server.name) for spare in self._spares)
        free = self._places.caps.total - self._places.taken + len(self._spares)
        return share_out(wants, room_mb + mine, free)

    def _inspect(self, spare: Spare, now: float) -> None:
        known = self._known.get(spare.kind)
        if spare.upstream.ended is not None and spare.ready:
            self._counters["crashes"] += 1
            if known is not None:
                known.demand.failed(now)
            self.drop(spare)
        elif spare.nobody.asked:  # the answer is its client's: from now on such servers wait before they may ask
            if known is not None:
                known.shy = True
            self.drop(spare)

    def _begin(self, kind: Kind, now: float) -> None:
        known = self._known[kind]
        if not self._places.take_now(known.server.name):
            return
        nobody = Nobody(known.promise)
        loop = asyncio.get_running_loop()
        upstream = Upstream(known.server, nobody, loop, self._report)
        spare = Spare(kind, known.server, upstream, nobody, now)
        self._spares.add(spare)
        spare.task = loop.create_task(self._start(spare, known))

    async def _start(self, spare: Spare, known: _Known) -> None:
        """Raises nothing but cancellation: whoever waits for it starts one of their own."""
        try:
            spare.admitted = await self._admit(spare.server)
            spare.stamp = await self._stamp(spare.server)
            await spare.upstream.open(self._starter, spare.admitted, self._start_timeout_s, settle=not known.shy)
        except HarbourError as e:
            known.demand.failed(spare.upstream.loop.time())
            log.warning("no spare sandbox for %s: %s", spare.server.name, e)
            self.drop(spare)
            return
        except Exception:
            known.demand.failed(spare.upstream.loop.time())
            log.exception("making a spare sandbox for %s failed", spare.server.name)
            self.drop(spare)
            return
        spare.ready = True
        known.demand.failures = 0
        self._counters["spares_made"] += 1

    def drop_one(self, server: str | None) -> str | None:
        """End the spare whose kind was used longest ago, to make room; its server, or None when there is none."""
        found = [s for s in self._spares if server is None or s.server.name == server]
        if not found:
            return None
        spare = min(found, key=self._last_used)
        self._counters["spares_dropped"] += 1
        self.drop(spare)
        return spare.server.name

    def _last_used(self, spare: Spare) -> float:
        known = self._known.get(spare.kind)
        return known.demand.last if known is not None else 0.0

    def drop(self, spare: Spare) -> None:
        if spare in self._spares:
            self._spares.discard(spare)
            self._end(spare)

    def _end(self, spare: Spare) -> None:
        self._places.ending(spare.server.name)
        task = asyncio.get_running_loop().create_task(self._stop(spare))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _stop(self, spare: Spare) -> None:
        try:
            if spare.task is not None and not spare.task.done() and spare.task is not asyncio.current_task():
                spare.task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await spare.task
            await spare.upstream.stop()
        except Exception:
            log.exception("could not stop a spare sandbox of %s; the reaper will", spare.server.name)
        finally:
            self._places.free(spare.server.name, ended=True)

    async def close(self) -> None:
        """End every spare and wait until they are gone."""
        self._closed = True
        for spare in tuple(self._spares):
            self.drop(spare)
        while self._ending:
            await asyncio.wait(set(self._ending))


def _kind(server: LockedServer, promise: Promise) -> Kind:
    return (server.name, fingerprint(server), promise.key)


def _same(spare: Spare, admitted: Any, stamp: Any) -> bool:
    """Whether the spare is what would be started now: the image that admission vouches for, the secrets as they are."""
    made_from = (spare.admitted.image, spare.admitted.image_id, spare.stamp)
    return made_from == (admitted.image, admitted.image_id, stamp)
