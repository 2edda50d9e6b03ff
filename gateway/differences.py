"""Where running servers differ from their lock: into the audit, the log, and a file for people to review."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.drift import Drift
from gateway.held import HeldFiles
from gateway.lock import LockedServer
from gateway.record import Recorder, pin_record

log = logging.getLogger("gateway")

Found = Callable[[LockedServer, Drift], None]


class Differences:
    """``found``: hears of each, after it is on record."""

    def __init__(self, folder: Path, recorder: Recorder, found: Found) -> None:
        self._held = HeldFiles(folder)
        self._recorder, self._found = recorder, found
        self._notes: set[asyncio.Task[None]] = set()

    def report(self, server: LockedServer, sandbox: str, drift: Drift) -> None:
        record = pin_record(server.name, sandbox, drift)
        self._recorder.call(record)
        self._found(server, drift)
        log.warning(
            "%s differs from what was locked (%s); what changed is held.  See: hm lock diff %s",
            server.name,
            ", ".join([*record["changed"], *record["added"], *record["missing"]]),
            server.name,
        )
        task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._note, server, drift))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    def remembered(self, lock: Mapping[str, LockedServer]) -> list[tuple[LockedServer, Drift]]:
        """What was found before this gateway began, of servers that are locked as they were then.  Blocking."""
        found = []
        for name in self._held.names():
            if (server := lock.get(name)) is not None:
                found += [(server, Drift(part, d["changed"])) for part, d in self._held.read(server).items()]
        return found

    async def close(self) -> None:
        """Wait until all are on file."""
        if self._notes:
            await asyncio.wait(set(self._notes))

    def _note(self, server: LockedServer, drift: Drift) -> None:
        try:
            self._held.note(server, drift)
        except (OSError, ValueError, RecursionError) as e:  # it may be nested as deeply as its server likes
            log.error("what %s differs in could not be kept for review: %s", server.name, e)
