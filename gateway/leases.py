"""Leases: a client's hold on one sandbox per server, started on first use, never shared, destroyed at the end.

One event loop owns all state.  ``ready`` is the hot path: two dictionary look-ups.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from gateway.errors import ServerExited, ShuttingDown, TooManySandboxes
from gateway.lock import LockedServer
from gateway.pins import Report, unreported
from gateway.upstream import Peer, SandboxStarter, Upstream
from harbourmaster.core.errors import HarbourError

log = logging.getLogger("gateway.leases")


class Lease:
    """One client's sandbox for one server; ``task`` starts it."""

    __slots__ = ("holder", "ready", "server", "task", "upstream", "used")

    def __init__(self, holder: Holder, server: LockedServer, upstream: Upstream, now: float) -> None:
        self.holder = holder
        self.server = server
        self.upstream = upstream
        self.used = now
        self.ready = False
        self.task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return not self.ready or bool(self.upstream.pending) or bool(self.upstream.subscriptions)


class Holder(Peer):
    """Who holds leases: a handshake session, or a modern client."""

    leases: dict[str, Lease]


class Leases:
    def __init__(
        self,
        *,
        starter: SandboxStarter,
        admit: Callable[[LockedServer], Awaitable[Any]],
        limit: int,
        idle_s: float,
        start_timeout_s: float,
        report: Report = unreported,
    ) -> None:
        self._starter = starter
        self._admit = admit
        self._limit = limit
        self._idle_s = idle_s
        self._start_timeout_s = start_timeout_s
        self._report = report
        self._all: set[Lease] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Lease]:
        return iter(tuple(self._all))

    def ready(self, holder: Holder, server: LockedServer, now: float) -> Upstream | None:
        """The holder's live connection to ``server``, if there is one."""
        lease = holder.leases.get(server.name)
        if lease is None or not lease.ready or lease.server is not server or lease.upstream.ended is not None:
            return None
        lease.used = now
        return lease.upstream

    async def open(self, holder: Holder, server: LockedServer) -> Upstream:
        """The holder's connection to ``server``, started if need be; callers arriving meanwhile wait for the same."""
        lease = holder.leases.get(server.name)
        if lease is not None and (lease.upstream.ended is not None or lease.server is not server):
            self.end(lease)
            lease = None
        if lease is None:
            lease = self._begin(holder, server)
        if lease.task is not None and not lease.ready:
            await asyncio.shield(lease.task)
        return lease.upstream

    def _begin(self, holder: Holder, server: LockedServer) -> Lease:
        if self._closed:
            raise _shutting_down()
        loop = asyncio.get_running_loop()
        lease = Lease(holder, server, Upstream(server, holder, loop, self._report), loop.time())
        holder.leases[server.name] = lease
        self._all.add(lease)
        lease.task = loop.create_task(self._start(lease))
        lease.task.add_done_callback(_retrieve)
        return lease

    async def _start(self, lease: Lease) -> None:
        try:
            await self._make_room()
            admitted = await self._admit(lease.server)
            await lease.upstream.open(self._starter, admitted, self._start_timeout_s)
        except BaseException as e:
            if not isinstance(e, (HarbourError, asyncio.CancelledError)):
                log.exception("starting %s failed", lease.server.name)
            lease.task = None
            self.end(lease)
            if isinstance(e, asyncio.CancelledError):  # only `end` cancels a start, and others may be waiting for it
                raise ServerExited(f"{lease.server.name} was stopped while it started", remedy="call again") from None
            raise
        lease.ready = True
        lease.used = lease.upstream.loop.time()

    async def _make_room(self) -> None:
        """Wait for a place under the limit, ending the sandbox that has been idle longest.  ``TooManySandboxes``."""
        while len(self._all) + len(self._ending) > self._limit:
            idle = [lease for lease in self._all if not lease.busy]
            if idle:
                self.end(min(idle, key=lambda lease: lease.used))
            if not self._ending:
                raise TooManySandboxes(
                    f"all {self._limit} sandboxes are in use", remedy="wait for a call to end, or raise max_sandboxes"
                )
            await asyncio.wait(self._ending, return_when=asyncio.FIRST_COMPLETED)

    def end(self, lease: Lease) -> None:
        """Let go of ``lease``; its sandbox stops in the background."""
        if lease not in self._all:
            return
        self._all.discard(lease)
        if lease.holder.leases.get(lease.server.name) is lease:
            del lease.holder.leases[lease.server.name]
        if lease.task is not None and not lease.task.done():
            lease.task.cancel()
        task = asyncio.get_running_loop().create_task(self._stop(lease))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def end_server(self, name: str) -> None:
        for lease in tuple(self._all):
            if lease.server.name == name:
                self.end(lease)

    def end_all(self, holder: Holder) -> None:
        for lease in tuple(holder.leases.values()):
            self.end(lease)

    async def _stop(self, lease: Lease) -> None:
        if lease.task is not None:
            with contextlib.suppress(BaseException):
                await lease.task
        try:
            await lease.upstream.stop()
        except Exception:
            log.exception("could not stop a sandbox of %s; the reaper will", lease.server.name)

    def sweep(self, now: float) -> None:
        """Time out calls, and end what is dead or has been idle too long."""
        for lease in tuple(self._all):
            lease.upstream.sweep(now)
            if lease.busy:
                lease.used = now
            if lease.ready and (lease.upstream.ended is not None or now - lease.used >= self._idle_s):
                self.end(lease)

    async def close(self) -> None:
        """End every lease and wait until all sandboxes are gone."""
        self._closed = True
        for lease in tuple(self._all):
            lease.upstream.end(_shutting_down())
            self.end(lease)
        while self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)


def _retrieve(task: asyncio.Task[None]) -> None:
    """A start that nobody waits for any more is not an unhandled error."""
    if not task.cancelled():
        task.exception()


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the gateway is shutting down", remedy="call again when it is back")
