"""Weighs sandboxes, one at a time and seldom, so that the budget counts what servers take and not what is assumed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

from gateway.pool_demand import ASSUMED_MB, Footprints
from gateway.pool_lease import Lease

WEIGH_S: Final = 60.0  # between two readings of one sandbox; the engine takes a few milliseconds for each


class Scales:
    def __init__(self, footprints: Footprints) -> None:
        self._footprints = footprints
        self._task: asyncio.Task[None] | None = None

    def tick(self, leases: Iterable[Lease], now: float) -> None:
        """Read the memory of the one that was not weighed for longest, if any is due."""
        if self._task is not None and not self._task.done():
            return
        due = [x for x in leases if x.ready and x.upstream.ended is None and self._is_due(x, now)]
        if due:
            lease = min(due, key=lambda x: x.weighed)
            lease.weighed = now
            self._task = asyncio.get_running_loop().create_task(self._weigh(lease))

    def _is_due(self, lease: Lease, now: float) -> bool:
        return now - lease.weighed >= WEIGH_S or not self._footprints.known(lease.server.name)

    async def _weigh(self, lease: Lease) -> None:
        mb = await lease.upstream.memory_mb()
        self._footprints.measured(lease.server.name, ASSUMED_MB if mb is None else mb)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
