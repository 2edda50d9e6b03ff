"""The audit's writer tells its sender what is on disk: rarely, but at once where somebody waits for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from harbourmaster.core import audit_writer
from harbourmaster.core.audit_process import AuditProcess
from harbourmaster.core.audit_trail import Trail
from harbourmaster.core.audit_writer import Writer

RECORD: list[Any] = [1.0, {"kind": "call"}]


class Told:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def all(self) -> list[dict[str, Any]]:
        try:
            return [orjson.loads(line) for line in os.read(self._fd, 1 << 16).splitlines()]
        except BlockingIOError:
            return []


@pytest.fixture
def pipe() -> Iterator[tuple[Told, int]]:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    yield Told(ours), theirs
    os.close(ours)
    os.close(theirs)


@pytest.fixture
def writer(tmp_path: Path, pipe: tuple[Told, int], monkeypatch: pytest.MonkeyPatch) -> Writer:
    monkeypatch.setattr(audit_writer, "TELL_S", 3600.0)
    writer = Writer(Trail(tmp_path), pipe[1])
    writer._told_at = audit_writer.time.monotonic()
    return writer


def test_batches_that_nobody_waits_for_are_told_together(writer: Writer, pipe: tuple[Told, int]) -> None:
    for count in (3, 4):
        writer.queue.extend([RECORD] * count)
        assert writer.write()
        assert pipe[0].all() == []
    writer.tell()
    assert pipe[0].all() == [{"n": 7, "lines": {}}]
    writer.tell()
    assert pipe[0].all() == [], "nothing is told twice"


def test_a_record_that_somebody_waits_for_is_told_at_once_with_all_before_it(
    writer: Writer, pipe: tuple[Told, int]
) -> None:
    writer.queue.extend([RECORD] * 3)
    assert writer.write()
    writer.queue.extend([RECORD, [*RECORD, 9]])
    assert writer.write()
    [told] = pipe[0].all()
    assert told["n"] == 5
    assert orjson.loads(told["lines"]["9"])["kind"] == "call"


def test_what_is_on_disk_is_told_before_a_refusal(
    writer: Writer, pipe: tuple[Told, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.queue.extend([RECORD] * 3)
    assert writer.write()

    def full(records: object) -> list[bytes]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer._trail, "append", full)
    writer.queue.append([*RECORD, 5])
    assert not writer.write()
    first, second = pipe[0].all()
    assert first == {"n": 3, "lines": {}}
    assert second["refused"] == [5]


def test_the_sender_s_copies_go_when_no_more_records_come(tmp_path: Path) -> None:
    log = AuditProcess(tmp_path)
    try:
        for _ in range(50):
            log.append({"kind": "call"})
        while log._unsure:  # the test's own time limit ends it where they stay
            log._reader.join(0.01)
    finally:
        log.close()
