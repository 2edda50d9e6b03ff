"""Leases: a client's hold on one sandbox per server, from a spare or started, never shared, destroyed at the end.

Three kinds, by what the entry says: a client's own for as long as it stays (the rule), one call's (``ephemeral: call``),
and one that all clients share (``stateless: true``).  What a handshake session was promised is kept while it lives: its
sandbox ends early only to make room, and then the session's next call is told so.  One event loop owns all state;
``ready`` is the hot path: two dictionary look-ups.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from gateway.errors import CallCancelled, SandboxEvicted, ServerExited, ShuttingDown
from gateway.lock import LockedServer
from gateway.pins import Report, unreported
from gateway.pool import Pool, unstamped
from gateway.pool_demand import Footprints
from gateway.pool_habits import Habits
from gateway.pool_lease import CALL, OWN, SHARED, Holder, Lease, Shared, fingerprint, is_stateless, per_call, same_line
from gateway.pool_places import Caps, Places
from gateway.pool_promise import Promise
from gateway.pool_scales import Scales
from gateway.upstream import SandboxStarter, Upstream
from harbourmaster.core.errors import HarbourError

log = logging.getLogger("gateway.leases")

SHARED_CALLS: Final = 4  # calls at one time in a shared sandbox before another is started beside it
RESTING_S: Final = 5.0  # an idle sandbox makes room for another's memory only after this

Stamp = Callable[[LockedServer], Awaitable[Any]]
Notify = Callable[..., None]  # (event, **fields): for people who watch


def unheard(event: str, **fields: Any) -> None:
    """Nobody watches."""


class Leases:
    def __init__(
        self,
        *,
        starter: SandboxStarter,
        admit: Callable[[LockedServer], Awaitable[Any]],
        caps: Caps,
        budget_mb: float,
        spares: int,
        idle_s: float,
        start_timeout_s: float,
        client_info: dict[str, Any],
        stamp: Stamp = unstamped,
        report: Report = unreported,
        notify: Notify = unheard,
        habits: Habits | None = None,
    ) -> None:
        self._starter, self._admit, self._stamp = starter, admit, stamp
        self.budget_mb, self._idle_s, self._start_timeout_s = budget_mb, idle_s, start_timeout_s
        self._client_info, self._report, self._notify = client_info, report, notify
        self.counters: Counter[str] = Counter()
        self.footprints = Footprints()
        self.places = Places(caps, self._make_room)
        self.pool = Pool(
            starter=starter,
            admit=admit,
            stamp=stamp,
            places=self.places,
            footprints=self.footprints,
            counters=self.counters,
            idle_s=idle_s,
            start_timeout_s=start_timeout_s,
            most=spares,
            report=report,
            habits=habits,
        )
        self._all: set[Lease] = set()
        self._shared: dict[tuple[str, str, str], Shared] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._scales = Scales(self.footprints)
        self._closed = False

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Lease]:
        return iter(tuple(self._all))

    # -- for calls

    def ready(self, holder: Holder, server: LockedServer, now: float) -> Upstream | None:
        """The holder's live connection to ``server``, if there is one."""
        upstream = self.live(holder, server)
        if upstream is not None:
            self.use(upstream, now)
        return upstream

    def live(self, holder: Holder, server: LockedServer) -> Upstream | None:
        """As ``ready``, for who may not use it after all."""
        lease = holder.leases.get(server.name)
        if lease is None or not lease.ready or lease.server is not server or lease.upstream.ended is not None:
            return None
        return lease.upstream

    def use(self, upstream: Upstream, now: float) -> None:
        lease = upstream.lease
        assert lease is not None
        lease.used = now
        lease.uses += 1

    def expect(self, holder: Holder, servers: Mapping[str, LockedServer], now: float) -> list[LockedServer]:
        """``holder`` has come, and may use ``servers``; those that it is likely to use."""
        return self.pool.expect(Promise.of(holder), servers, now)

    async def open(self, holder: Holder, server: LockedServer, *, own: bool = False) -> Upstream:
        """A connection to ``server`` for one call of ``holder``, started if need be; calls arriving meanwhile wait for the
        same.  ``own``: never a shared one.  Raises ``SandboxEvicted``, ``TooManySandboxes``, and what starting raises.
        """
        _still_here(holder, server)
        if per_call(server) and not own:
            lease = self._begin(holder, server, CALL)
        elif is_stateless(server) and not own and server.name not in holder.leases:
            lease = self._share(holder, server)
        else:
            lease = self._own(holder, server)
        lease.claims += 1
        if lease.task is not None and not lease.ready:
            try:
                await asyncio.shield(lease.task)
                _still_here(holder, server)
            except BaseException:
                lease.claims -= 1
                if lease.kind == CALL:
                    self.end(lease)
                raise
        lease.uses += 1
        return lease.upstream

    def claim(self, upstream: Upstream) -> None:
        """A call goes on over a connection that was there; ``done`` ends what this and ``open`` begin."""
        if upstream.lease is not None:
            upstream.lease.claims += 1

    def _own(self, holder: Holder, server: LockedServer) -> Lease:
        lease = holder.leases.get(server.name)
        if lease is not None and (lease.upstream.ended is not None or lease.server is not server):
            self._gone(lease)
            lease = None
        if lease is None:
            lost = holder.lost.pop(server.name, None)
            if lost is not None:
                raise lost
            lease = self._begin(holder, server, OWN)
            holder.leases[server.name] = lease
        return lease

    def _share(self, holder: Holder, server: LockedServer) -> Lease:
        key = (server.name, fingerprint(server), holder.version)
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = Shared(holder.version, self._client_info)
        live = [x for x in shared.sandboxes if x.upstream.ended is None]
        least = min(live, key=lambda x: len(x.upstream.pending), default=None)
        crowded = (
            least is not None and len(least.upstream.pending) >= SHARED_CALLS and self.places.room(server.name) > 0
        )
        if least is None or (crowded and all(x.ready for x in live)):
            least = self._begin(shared, server, SHARED)
            shared.sandboxes.append(least)
        least.used = least.upstream.loop.time()
        return least

    def done(self, upstream: Upstream, *, parked: bool = False) -> None:
        """A call over ``upstream`` has ended, or (``parked``) waits for a person."""
        lease = upstream.lease
        if lease is not None:
            lease.claims -= 1
            if lease.kind == CALL and not parked:
                self.end(lease)
        if self.places.waiting:
            self.places.press()

    def repeatable(self, upstream: Upstream) -> bool:
        """Whether a call that ``upstream`` failed can be made again without losing anything the server remembered."""
        lease = upstream.lease
        return lease is None or lease.kind != OWN or lease.uses <= 1 or is_stateless(lease.server)

    # -- beginning

    def _begin(self, holder: Holder, server: LockedServer, kind: str) -> Lease:
        if self._closed:
            raise _shutting_down()
        loop = asyncio.get_running_loop()
        lease = Lease(holder, server, Upstream(server, holder, loop, self._report), loop.time(), kind)
        lease.upstream.lease = lease
        self._all.add(lease)
        lease.task = loop.create_task(self._start(lease))
        lease.task.add_done_callback(_retrieve)
        return lease

    async def _start(self, lease: Lease) -> None:
        try:
            await self._fill(lease)
        except BaseException as e:
            if not isinstance(e, (HarbourError, asyncio.CancelledError)):
                log.exception("starting %s failed", lease.server.name)
            lease.task = None
            self.end(lease)
            if isinstance(e, asyncio.CancelledError):  # only `end` cancels a start, and others may be waiting for it
                raise ServerExited(f"{lease.server.name} was stopped while it started", remedy="call again") from None
            self.counters["failed_starts"] += 1
            raise
        lease.ready = True
        lease.used = lease.upstream.loop.time()

    async def _fill(self, lease: Lease) -> None:
        """Give ``lease`` a spare, or start its sandbox in a place of its own."""
        server, promise, now = lease.server, Promise.of(lease.holder), lease.upstream.loop.time()
        self.pool.used(server, promise, now)
        admitted, stamp = await self._admit(server), await self._stamp(server)
        spare = await self.pool.take(server, lease.holder, promise, admitted, stamp)
        if spare is not None:
            spare.lease, lease.upstream, lease.held = lease, spare, True
            self._tell(lease, "warm_hits", "lease.warm")
            return
        if (
            not server.remote
        ):  # elsewhere takes neither a place nor memory here; gateway/remote/net.py has its own limit
            await self.places.take(server.name)
            lease.held = True
        await lease.upstream.open(self._starter, admitted, self._start_timeout_s)
        self._tell(lease, "cold_starts", "lease.cold")

    def _tell(self, lease: Lease, counter: str, event: str, **more: Any) -> None:
        self.counters[counter] += 1
        facts = {"server": lease.server.name, "sandbox": lease.upstream.sandbox_id, "kind": lease.kind}
        self._notify(event, **facts, session=lease.holder.label, **more)

    # -- ending

    def end(self, lease: Lease) -> None:
        """Let go of ``lease``; its sandbox stops in the background."""
        if lease not in self._all:
            return
        self._all.discard(lease)
        if lease.holder.leases.get(lease.server.name) is lease:
            del lease.holder.leases[lease.server.name]
        if isinstance(lease.holder, Shared) and lease in lease.holder.sandboxes:
            lease.holder.sandboxes.remove(lease)
        if lease.task is not None and not lease.task.done():
            lease.task.cancel()
        if lease.held:
            self.places.ending(lease.server.name)
        task = asyncio.get_running_loop().create_task(self._stop(lease, lease.held))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def evict(self, lease: Lease, why: str, counter: str = "evictions") -> None:
        """End ``lease`` although its client is still there; a session hears of it at its next call."""
        self._tell(lease, counter, "lease.evicted", why=why)
        if lease.kept:
            lease.holder.lost[lease.server.name] = SandboxEvicted(
                f"the sandbox of {lease.server.name} was ended {why}; what it remembered of this session is gone, and this "
                "call was not made",
                remedy="call again; a fresh sandbox will be started",
                server=lease.server.name,
            )
        self.end(lease)

    def _gone(self, lease: Lease) -> None:
        """The server ended by itself, or its line in the lock changed: a session that has not heard of it must."""
        if lease.upstream.ended is None:
            self.evict(lease, "because the lock changed")
            return
        self._tell(lease, "crashes", "lease.crashed", why=lease.upstream.ended.message)
        if lease.kept and lease.ready and not lease.upstream.told:
            lease.holder.lost[lease.server.name] = lease.upstream.ended
        self.end(lease)

    def end_server(self, name: str) -> None:
        """``name`` may not run any more."""
        self.pool.drop_server(name)
        for lease in tuple(self._all):
            if lease.server.name == name:
                self.evict(lease, "because it lost its admission")

    def keep_only(self, lock: Mapping[str, LockedServer]) -> None:
        """The lock changed: what nobody's index holds on to, and is not as the lock says, ends."""
        self.pool.keep_only(lock)
        for lease in tuple(self._all):
            if lease.kind == SHARED and not same_line(lease.server, lock):
                self.evict(lease, "because the lock changed")

    def end_all(self, holder: Holder) -> None:
        """``holder`` left.  A call of its that waits for a verdict, or a start, will not find a sandbox."""
        holder.left = True
        for lease in tuple(holder.leases.values()):
            self.end(lease)
        for lease in [x for x in self._all if x.kind == CALL and x.holder is holder]:
            self.end(lease)
        for call in [c for c in holder.calls.values() if c.upstream is not None and c.upstream.peer is not holder]:
            assert call.upstream is not None
            call.upstream.cancel(call, "its client left")
            call.fail(CallCancelled("its client left"))

    async def _stop(self, lease: Lease, held: bool) -> None:
        try:
            if lease.task is not None:
                with contextlib.suppress(BaseException):
                    await lease.task
            await lease.upstream.stop()
        except Exception:
            log.exception("could not stop a sandbox of %s; the reaper will", lease.server.name)
        finally:
            if held or lease.held:  # it may have got its place in the very moment it was ended
                self.places.free(lease.server.name, ended=held)

    # -- housekeeping

    def sweep(self, now: float) -> None:
        """Time out calls, end what is dead or idle too long, keep within the memory, keep spares."""
        for lease in tuple(self._all):
            lease.upstream.sweep(now)
            if lease.busy:
                lease.used = now
            elif lease.upstream.ended is not None:
                self._gone(lease)
            elif now - lease.used >= (RESTING_S if lease.kind == CALL else self._idle_s) and not lease.kept:
                self.evict(lease, "because it was idle", "idle_stops")
        self._fit(now)
        self.pool.tick(now, self.budget_mb - self.memory_mb())
        self.places.press()
        self._scales.tick(self._all, now)

    def memory_mb(self) -> float:
        """What all sandboxes take that are not ending."""
        return self.footprints.total(self.places.live())

    def _fit(self, now: float) -> None:
        """End spares, then the longest idle, while all together take more than the budget."""
        over = self.memory_mb() - self.budget_mb
        while over > 0:
            if (spare := self.pool.drop_one(None)) is not None:
                over -= self.footprints.of(spare)
                continue
            idle = [x for x in self._idle() if now - x.used >= RESTING_S]
            if not idle:
                return
            lease = min(idle, key=_eviction_order)
            over -= self.footprints.of(lease.server.name)
            self.evict(lease, "because the memory for sandboxes is needed by others")

    def _make_room(self, server: str | None) -> bool:
        """Begin to end one idle sandbox (``Places``): spares first, then those nobody counts on, then the longest idle."""
        if self.pool.drop_one(server) is not None:
            return True
        idle = [x for x in self._idle() if server is None or x.server.name == server]
        if not idle:
            return False
        self.evict(min(idle, key=_eviction_order), "because its place was needed by others")
        return True

    def _idle(self) -> list[Lease]:
        """Those whose end makes room."""
        return [x for x in self._all if not x.busy and x.kind != CALL and not x.server.remote]

    async def close(self) -> None:
        """End every lease and spare, and wait until all sandboxes are gone."""
        self._closed = True
        for lease in tuple(self._all):
            lease.upstream.end(_shutting_down())
            self.end(lease)
        while self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)
        await self.pool.close()
        await self._scales.close()


def _still_here(holder: Holder, server: LockedServer) -> None:
    if holder.left:
        raise ServerExited(f"{server.name} was not asked: its client left", remedy="open a new session")


def _eviction_order(lease: Lease) -> tuple[bool, float]:
    return lease.kept, lease.used


def _retrieve(task: asyncio.Task[None]) -> None:
    """A start that nobody waits for any more is not an unhandled error."""
    if not task.cancelled():
        task.exception()


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the gateway is shutting down", remedy="call again when it is back")
