"""The audit: every admission and every call, one hash-chained JSON line each, never lost silently.

``append`` costs microseconds: it checks the record and puts it in a bounded queue; one thread per process seals,
writes and syncs in batches.  When a write fails, the records stay queued and are tried again, and until one succeeds
every ``append`` raises ``AuditUnavailable``: what cannot be recorded does not happen.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future, InvalidStateError
from pathlib import Path
from typing import Any, Protocol

import orjson

from harbourmaster.core.audit_chain import AuditRecordInvalid, checked
from harbourmaster.core.audit_trail import Stamped, Trail
from harbourmaster.core.audit_verify import AuditBroken, AuditSummary, tail, verify
from harbourmaster.core.errors import UnavailableError

__all__ = [
    "Audit",
    "AuditBroken",
    "AuditLog",
    "AuditRecordInvalid",
    "AuditSummary",
    "AuditUnavailable",
    "tail",
    "verify",
]

MAX_QUEUE = 65_536  # records; about two seconds of writing at full speed
MAX_BATCH = 4_096  # records sealed under one lock and synced once
GATHER_S = 0.002  # how long the writer lets a batch gather; a crash loses at most this and one sync
RETRY_S = (0.05, 1.0)  # first and longest pause before a failed write is tried again
WAIT_S = 30.0  # how long flush, append_durably and close wait for the disk

Item = tuple[float, dict[str, Any] | None, "Future[bytes] | None"]  # a None record is a flush's mark


class AuditUnavailable(UnavailableError):
    """The record cannot be written now, so what it would record must not happen."""

    code = "audit.unavailable"


class Audit(Protocol):
    """What ``AuditLog`` and ``AuditProcess`` (harbourmaster/core/audit_process.py) both are."""

    def append(self, record: dict[str, Any]) -> None: ...
    def append_durably(self, record: dict[str, Any]) -> dict[str, Any]: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class AuditLog:
    """Appends to the chain in ``directory``; threads and processes may share it."""

    def __init__(self, directory: Path, *, max_queue: int = MAX_QUEUE) -> None:
        self._directory = directory
        self._max_queue = max_queue
        self._queue: deque[Item] = deque()
        self._failure: OSError | None = None
        self._closed = False
        self._wake = threading.Event()
        self._hurry = threading.Event()
        try:
            self._trail = Trail(directory)
        except OSError as e:
            self._failure = e
            raise self._refusal() from e
        self._writer = threading.Thread(target=self._run, name="audit", daemon=True)
        self._writer.start()
        self._at_exit = weakref.WeakMethod(self.close)
        atexit.register(_close_at_exit, self._at_exit)

    def append(self, record: dict[str, Any]) -> None:
        """Queue ``record`` (flat; ``kind`` first of all); raises ``AuditUnavailable`` when it may not get written."""
        if self._failure is not None or self._closed or len(self._queue) >= self._max_queue:
            raise self._refusal()
        self._queue.append((time.time(), checked(record), None))
        if not self._wake.is_set():
            self._wake.set()
        if self._closed:  # closed in this very moment: nobody may believe that it was recorded
            raise self._refusal()

    def append_durably(self, record: dict[str, Any]) -> dict[str, Any]:
        """Append and wait until it is synced; returns the record as written.  When this raises, it was not written."""
        line = self._through_writer(checked(record))
        written: dict[str, Any] = orjson.loads(line)
        return written

    def flush(self) -> None:
        """Wait until everything appended before is synced; raises ``AuditUnavailable`` when it cannot be."""
        self._through_writer(None)

    def close(self) -> None:
        """Write what is queued and stop; raises ``AuditUnavailable`` when some of it could not be written."""
        if self._closed:
            return
        self._closed = True
        self._nudge()
        self._writer.join(WAIT_S)
        atexit.unregister(_close_at_exit)
        if self._queue or self._writer.is_alive():
            raise self._refusal(f"; {len(self._queue) or 'some'} records were not written")

    def _through_writer(self, record: dict[str, Any] | None) -> bytes:
        full = record is not None and len(self._queue) >= self._max_queue
        if self._closed or full:
            raise self._refusal()
        done: Future[bytes] = Future()
        self._queue.append((time.time(), record, done))
        self._nudge()
        try:
            return done.result(WAIT_S)
        except TimeoutError:
            done.cancel()  # the writer skips what was given up
            raise self._refusal("; the disk did not answer in time") from None
        except OSError as e:
            raise self._refusal() from e

    def _nudge(self) -> None:
        self._hurry.set()
        self._wake.set()

    def _refusal(self, more: str = "") -> AuditUnavailable:
        why = "it is closed" if self._closed else f"{self._failure or f'{len(self._queue)} records wait to be written'}"
        return AuditUnavailable(
            f"the audit in {self._directory} cannot take this record: {why}{more}",
            remedy=f"make room and check that {self._directory} is writable; until then nothing runs unrecorded",
            directory=str(self._directory),
        )

    # The writer's thread.

    def _run(self) -> None:
        pause = RETRY_S[0]
        while not self._closed or self._queue:
            self._wake.wait()
            if not self._closed:
                self._hurry.wait(pause if self._failure else GATHER_S)
            self._hurry.clear()
            self._wake.clear()
            self._failure = self._write_queue()
            pause = min(pause * 2, RETRY_S[1]) if self._failure else RETRY_S[0]
            if self._failure:
                self._wake.set()
                if self._closed:
                    return

    def _write_queue(self) -> OSError | None:
        """Write all that is queued, batch by batch; on failure the rest stays queued, in order."""
        while self._queue:
            batch = self._take(MAX_BATCH)
            try:
                self._write(batch)
            except OSError as e:
                self._keep(batch + self._take(len(self._queue)), e)
                return e
        return None

    def _take(self, count: int) -> list[Item]:
        return [self._queue.popleft() for _ in range(min(count, len(self._queue)))]

    def _write(self, batch: list[Item]) -> None:
        batch[:] = [item for item in batch if item[2] is None or item[2].set_running_or_notify_cancel()]
        records: list[Stamped] = [(moment, record) for moment, record, _ in batch if record is not None]
        lines = iter(self._trail.append(records) if records else ())
        for _, record, done in batch:
            line = next(lines) if record is not None else b""
            if done is not None:
                done.set_result(line)

    def _keep(self, items: list[Item], failure: OSError) -> None:
        """Put records back in their place; those who wait for an answer get a no, and theirs are dropped."""
        self._queue.extendleft(reversed([item for item in items if item[2] is None]))
        for _, _, done in items:
            if done is not None:
                with contextlib.suppress(InvalidStateError):  # given up by its caller
                    done.set_exception(failure)


def _close_at_exit(close: weakref.WeakMethod[Any]) -> None:
    method = close()
    if method is not None:
        method()
