"""The audit's writer as a process of its own: `harbourmaster.core.audit_process` starts it and talks to it.

``python -m harbourmaster.core.audit_writer DIRECTORY``; frames come on stdin, one JSON line each, answers go to stdout:

    in   [moment, record]             a record; [moment, record, id] one whose writer waits; [0, null, id] a mark
    out  {"n": count, "lines": {id: line}}               so many frames, in their order, are on disk (or were given up)
    out  {"n": count, "errno": 28, "error": "...", "refused": [id]}   the disk refused; plain records are tried again

It ends when stdin does, after everything that came is written.  Signals do not end it: who started it closes the pipe.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import orjson

from harbourmaster.core.audit_trail import Stamped, Trail

MAX_BATCH: Final = 4_096  # records sealed under one lock and synced once
GATHER_S: Final = 0.01  # how long a batch gathers: what a crash of the machine loses; one of the sender loses nothing
TELL_S: Final = 0.05  # how long the sender keeps copies of what is on disk, for the sake of being woken less often
RETRY_S: Final = (0.05, 1.0)  # first and longest pause before a failed write is tried again
LAST_TRIES: Final = 4  # after the sender has gone: about two seconds
_READ: Final = 1 << 20  # the largest pipe an unprivileged process may have (pipe(7), pipe-max-size)

Frame = list[Any]


class Frames:
    """What comes in, frame by frame."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""
        self.ended = False

    def wait(self, seconds: float | None) -> bool:
        """Whether anything is there, or the end, within ``seconds`` (None: however long it takes)."""
        return bool(select.select([self._fd], [], [], seconds)[0])

    def read(self) -> list[Frame]:
        """What is there, without waiting for more than the first byte."""
        data = os.read(self._fd, _READ)
        self.ended = not data
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [orjson.loads(line) for line in whole]


class Writer:
    def __init__(self, trail: Trail, answer: int) -> None:
        self._trail = trail
        self._answer = answer
        self._told_at = 0.0
        self.untold = 0  # frames on disk of which the sender has not heard
        self.queue: deque[Frame] = deque()

    def write(self) -> bool:
        """Write all that is queued, batch by batch; False when the disk refused, and the rest stays queued."""
        while self.queue:
            batch = [self.queue.popleft() for _ in range(min(MAX_BATCH, len(self.queue)))]
            try:
                lines = self._lines(batch)
            except OSError as e:
                self._refuse(batch + list(self.queue), e)
                return False
            self.untold += len(batch)
            if lines or time.monotonic() - self._told_at >= TELL_S:
                self.tell(lines)
        return True

    def tell(self, lines: dict[str, str] | None = None) -> None:
        """What is on disk since the last time."""
        if self.untold:
            self._say({"n": self.untold, "lines": lines or {}})
            self.untold, self._told_at = 0, time.monotonic()

    def _lines(self, batch: list[Frame]) -> dict[str, str]:
        """Write ``batch``; the lines of those that somebody waits for."""
        records: list[Stamped] = [(frame[0], frame[1]) for frame in batch if frame[1] is not None]
        written = iter(self._trail.append(records) if records else ())
        waited = {}
        for frame in batch:
            line = next(written) if frame[1] is not None else b""
            if len(frame) > 2:
                waited[str(frame[2])] = line.decode()
        return waited

    def _refuse(self, frames: list[Frame], error: OSError) -> None:
        """Records that nobody waits for are kept, in order; whoever waits gets a no, and theirs are dropped."""
        self.tell()
        self.queue = deque(frame for frame in frames if len(frame) == 2)
        refused = [frame[2] for frame in frames if len(frame) > 2]
        self._say({"n": len(refused), "errno": error.errno or 0, "error": str(error), "refused": refused})

    def _say(self, body: dict[str, Any]) -> None:
        data = orjson.dumps(body) + b"\n"
        try:
            while data:
                data = data[os.write(self._answer, data) :]
        except BrokenPipeError:  # the sender is gone; what it sent is still to be written
            return


def run(directory: Path, frames: Frames, answer: int) -> int:
    """Write until there is nothing more; the number of records that could not be written."""
    writer = Writer(Trail(directory), answer)
    pause, tries = 0.0, 0
    while not frames.ended:
        if not writer.queue:
            if not frames.wait(TELL_S if writer.untold else None):
                writer.tell()
                frames.wait(None)
            time.sleep(GATHER_S)
        if frames.wait(pause):
            writer.queue.extend(frames.read())
        pause = 0.0 if writer.write() else min(max(pause * 2, RETRY_S[0]), RETRY_S[1])
    while writer.queue and tries < LAST_TRIES:
        time.sleep(pause)
        tries += 1
        pause = 0.0 if writer.write() else RETRY_S[1] / 2
    writer.tell()
    return len(writer.queue)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(1 if run(Path(sys.argv[1]), Frames(sys.stdin.fileno()), sys.stdout.fileno()) else 0)


if __name__ == "__main__":
    main()
