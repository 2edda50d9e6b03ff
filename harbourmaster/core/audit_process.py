"""The audit for a process that has no time to spare: records are handed to a writer process, which seals and syncs them.

The same promises as ``AuditLog``, and one more: what was appended survives a crash of this process, because it has left
it.  Here a record costs its check, its JSON and a write into a pipe; hashing, locking and syncing cost this process's
interpreter nothing.  Until the writer says that a record is on disk, a copy is kept: if the writer dies, another gets what
is unsure, and the trail says that these records may be there twice (``kind: audit, event: repeated``).
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import itertools
import os
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future, InvalidStateError
from pathlib import Path
from typing import Any, Final

import orjson

from harbourmaster.core.audit import MAX_QUEUE, WAIT_S, AuditUnavailable
from harbourmaster.core.audit_chain import NOTICE, checked, encoded
from harbourmaster.core.audit_trail import Trail

PIPE_BYTES: Final = 1 << 20  # pipe-max-size of an unprivileged process (pipe(7)): about 4,000 records
RESTARTS: Final = 3  # of a writer that dies at once


class AuditProcess:
    """As ``AuditLog``; threads may share it.  ``close`` it: the writer lives until then."""

    def __init__(self, directory: Path, *, max_queue: int = MAX_QUEUE) -> None:
        self._directory = directory
        self._max_queue = max_queue
        self._unsure: deque[bytes] = deque()  # sent (but for the last `_unsent`), and not known to be on disk
        self._unsent: deque[bytes] = deque()
        self._waiting: dict[int, Future[bytes]] = {}
        self._ids = itertools.count(1)
        self._lock = threading.RLock()
        self._failure: OSError | None = None
        self._closed = False
        try:
            Trail(directory)  # makes the directory, or says why it cannot
            self._writer = _start(directory)
        except OSError as e:
            self._failure = e
            raise self._refusal() from e
        self._into = _pipe_of(self._writer)
        self._reader = threading.Thread(target=self._read, name="audit", daemon=True)
        self._reader.start()
        self._at_exit = weakref.WeakMethod(self.close)
        atexit.register(_close_at_exit, self._at_exit)

    def append(self, record: dict[str, Any]) -> None:
        """Hand over ``record`` (flat; ``kind`` first of all); raises ``AuditUnavailable`` when it may not get written."""
        frame = encoded(time.time(), record)
        with self._lock:
            if self._failure is not None or self._closed or len(self._unsure) >= self._max_queue:
                raise self._refusal()
            self._send(frame)

    def append_durably(self, record: dict[str, Any]) -> dict[str, Any]:
        """Append and wait until it is synced; returns the record as written.  When this raises, it was not written."""
        written: dict[str, Any] = orjson.loads(self._through_writer(checked(record)))
        return written

    def flush(self) -> None:
        """Wait until everything appended before is synced; raises ``AuditUnavailable`` when it cannot be."""
        self._through_writer(None)

    def close(self) -> None:
        """Write what is queued and stop; raises ``AuditUnavailable`` when some of it could not be written."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._drain()
        self._end_input()
        self._reader.join(WAIT_S)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._writer.wait(WAIT_S)
        atexit.unregister(_close_at_exit)
        if self._unsure or self._writer.returncode is None:
            raise self._refusal(f"; {len(self._unsure) or 'some'} records were not written")

    def _through_writer(self, record: dict[str, Any] | None) -> bytes:
        done: Future[bytes] = Future()
        with self._lock:
            if self._closed or (record is not None and len(self._unsure) >= self._max_queue):
                raise self._refusal()
            number = next(self._ids)
            self._waiting[number] = done
            self._send(orjson.dumps((time.time(), record, number)) + b"\n")
        try:
            return done.result(WAIT_S)
        except TimeoutError:
            self._waiting.pop(number, None)
            raise self._refusal("; the disk did not answer in time") from None
        except OSError as e:
            raise self._refusal() from e

    # -- towards the writer

    def _send(self, frame: bytes) -> None:
        """Under the lock: into the pipe, or behind what waits for room in it."""
        self._unsure.append(frame)
        if self._unsent:
            self._unsent.append(frame)
            self._push()
            return
        try:
            sent = os.write(self._into, frame)
        except OSError as e:  # full, or the writer is gone and the reader will see to it
            sent = 0
            if e.errno not in (errno.EAGAIN, errno.EPIPE, errno.EBADF):
                raise
        if sent < len(frame):
            self._unsent.append(frame[sent:])

    def _push(self) -> None:
        """Under the lock: as much of what waits as fits into the pipe."""
        try:
            while self._unsent:
                sent = os.write(self._into, self._unsent[0])
                if sent < len(self._unsent[0]):
                    self._unsent[0] = self._unsent[0][sent:]
                    return
                self._unsent.popleft()
        except OSError as e:
            if e.errno not in (errno.EAGAIN, errno.EPIPE, errno.EBADF):
                raise

    def _drain(self) -> None:
        """Wait until the writer has taken everything."""
        end = time.monotonic() + WAIT_S
        while self._unsent and time.monotonic() < end:
            with self._lock:
                self._push()
            time.sleep(0.001)

    def _end_input(self) -> None:
        with self._lock:
            if self._writer.stdin is not None:
                self._writer.stdin.close()

    # -- from the writer: a thread

    def _read(self) -> None:
        deaths = 0
        while True:
            assert self._writer.stdout is not None
            for line in self._writer.stdout:
                deaths = 0
                self._heard(orjson.loads(line))
            self._writer.stdout.close()
            deaths += 1
            if self._closed or not self._restart(deaths):
                return

    def _heard(self, said: dict[str, Any]) -> None:
        with self._lock:
            if "error" in said:
                self._failure = OSError(said["errno"], said["error"])
                refused = set(said["refused"])
                self._unsure = deque(frame for frame in self._unsure if _id(frame) not in refused)
            else:
                self._failure = None
                for _ in range(said["n"]):
                    self._unsure.popleft()
            self._push()
        for number in said.get("refused", ()):
            self._settle(number, self._failure)
        for number, line in said.get("lines", {}).items():
            self._settle(int(number), line.encode())

    def _settle(self, number: int, outcome: bytes | OSError | None) -> None:
        done = self._waiting.pop(number, None)
        if done is None:
            return
        with contextlib.suppress(InvalidStateError):
            if isinstance(outcome, bytes):
                done.set_result(outcome)
            else:
                done.set_exception(outcome or OSError(errno.EIO, "the audit's writer ended"))

    def _restart(self, deaths: int) -> bool:
        """The writer died: another gets what is unsure."""
        self._failure = OSError(errno.EPIPE, "the audit's writer ended")
        self._writer.wait()
        if deaths > RESTARTS:
            return False
        try:
            writer = _start(self._directory)
        except OSError as e:
            self._failure = e
            return False
        with self._lock:
            self._end_input()
            self._writer, self._into = writer, _pipe_of(writer)
            if self._unsure:
                notice = {"kind": NOTICE, "event": "repeated", "repeated": len(self._unsure)}
                self._unsure.appendleft(orjson.dumps((time.time(), notice)) + b"\n")
            self._unsent = deque(self._unsure)
            self._push()
            if not self._unsure:
                self._failure = None
        return True

    def _refusal(self, more: str = "") -> AuditUnavailable:
        why = (
            "it is closed" if self._closed else f"{self._failure or f'{len(self._unsure)} records wait to be written'}"
        )
        return AuditUnavailable(
            f"the audit in {self._directory} cannot take this record: {why}{more}",
            remedy=f"make room and check that {self._directory} is writable; until then nothing runs unrecorded",
            directory=str(self._directory),
        )


def _start(directory: Path) -> subprocess.Popen[bytes]:
    """In a session of its own, so that what interrupts us from a terminal does not reach it."""
    command = [sys.executable, "-m", "harbourmaster.core.audit_writer", str(directory)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)


def _pipe_of(writer: subprocess.Popen[bytes]) -> int:
    assert writer.stdin is not None
    fd = writer.stdin.fileno()
    os.set_blocking(fd, False)
    with contextlib.suppress(OSError):  # more than the system allows: then it is the usual 64 KiB
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return fd


def _id(frame: bytes) -> int:
    """The number of a frame that somebody waits for; 0 for the others."""
    body = orjson.loads(frame)
    return int(body[2]) if len(body) > 2 else 0


def _close_at_exit(close: weakref.WeakMethod[Any]) -> None:
    method = close()
    if method is not None:
        method()
