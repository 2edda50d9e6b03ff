"""Reads the audit back: checks the whole chain, shows its end."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harbourmaster.core.audit_chain import MAX_LINE, NOTICE, ChainEnd, unseal
from harbourmaster.core.audit_trail import files, locked, read_head
from harbourmaster.core.errors import IntegrityError


class AuditBroken(IntegrityError):
    """``details``: ``file`` and ``line`` of the first place that does not fit."""

    code = "audit.broken"


@dataclass(frozen=True)
class AuditSummary:
    """What ``verify`` found: all well, but for ``torn`` places, each explained: (file, line, bytes)."""

    records: int
    files: int
    first: str | None
    last: str | None
    head: str
    torn: tuple[tuple[str, int, int], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        places = [{"file": file, "line": line, "bytes": count} for file, line, count in self.torn]
        return {
            "records": self.records,
            "files": self.files,
            "first": self.first,
            "last": self.last,
            "head": self.head,
            "torn": places,
        }


@dataclass
class _Gap:
    """Lines that are no records, one after the other: torn if the next record explains them, else damage."""

    file: str
    line: int
    offset: int
    data: bytearray = field(default_factory=bytearray)

    @property
    def place(self) -> tuple[str, int, int]:
        return self.file, self.line, len(self.data)

    def explained_by(self, record: dict[str, Any]) -> bool:
        if (record["kind"], record.get("event")) != (NOTICE, "torn"):
            return False
        count = record.get("torn_bytes")
        place = (record.get("torn_file"), record.get("torn_offset"))
        # The next append ends a torn line with a newline of its own.
        rest = bytes(self.data[count:]) if isinstance(count, int) else None
        digest = hashlib.sha256(self.data[:count]).hexdigest()
        return place == (self.file, self.offset) and rest in (b"", b"\n") and record.get("torn_sha256") == digest


class _Checker:
    def __init__(self) -> None:
        self.end = ChainEnd()
        self.records = 0
        self.first: str | None = None
        self.last: str | None = None
        self.torn: list[tuple[str, int, int]] = []
        self.gaps: list[_Gap] = []

    def take(self, file: str, line: int, offset: int, raw: bytes, head: ChainEnd | None) -> None:
        record = unseal(raw[:-1]) if raw.endswith(b"\n") else None
        if record is None:
            if not self.gaps or self.gaps[-1].file != file:
                self.gaps.append(_Gap(file, line, offset))
            self.gaps[-1].data += raw
            return
        if self.gaps:
            if not self.gaps[0].explained_by(record):
                raise self.broken_gap()
            self.torn.append(self.gaps.pop(0).place)
        self._follows(file, line, record)
        self._self_report(file, line, record)
        if head and head.seq == record["seq"] and head.hash != record["hash"]:
            raise _broken(file, line, "the head file remembers another record here: it was rewritten")

    def _follows(self, file: str, line: int, record: dict[str, Any]) -> None:
        expected = self.end.seq + 1
        if record["seq"] != expected or record["prev"] != self.end.hash:
            what = f"record {expected} should be here, but record {record['seq']} is"
            if record["seq"] == expected:
                what = f"record {expected} does not continue the record before it: one of them was replaced"
            raise _broken(file, line, what)
        self.end = ChainEnd(record["seq"], record["hash"])
        self.records += 1
        self.first = self.first or record["ts"]
        self.last = record["ts"]

    def _self_report(self, file: str, line: int, record: dict[str, Any]) -> None:
        if record["kind"] != NOTICE:
            return
        match record.get("event"):
            case "lost":
                why = f"records {record.get('lost_from')} to {record.get('lost_to')} vanished before this one"
            case "replaced":
                why = "the record before this one took the place of another"
            case "head_missing":
                why = "the head file was gone when this was written: records before it may be missing"
            case _:
                return
        raise _broken(file, line, why)

    def broken_gap(self) -> AuditBroken:
        return _broken(
            self.gaps[0].file, self.gaps[0].line, "this line is not a record as it was written: edited or damaged"
        )


def verify(directory: Path) -> AuditSummary:
    """Check every record of every file against the chain and the head; raises ``AuditBroken`` naming file and line.

    A half-written last line, which a crash leaves, is reported in ``torn``, not raised: the head shows that no
    confirmed record was in it.
    """
    head, raw_head, sizes = _snapshot(directory)
    checker = _Checker()
    for path, size in sizes:
        for line, offset, raw in _lines(path, size):
            checker.take(path.name, line, offset, raw, head)
    _check_head(directory, head, raw_head, checker, sizes)
    checker.torn.extend(gap.place for gap in checker.gaps)
    return AuditSummary(checker.records, len(sizes), checker.first, checker.last, checker.end.hash, tuple(checker.torn))


def _check_head(
    directory: Path, head: ChainEnd | None, raw: bytes, checker: _Checker, sizes: list[tuple[Path, int]]
) -> None:
    if head is None:
        if checker.records or checker.gaps or raw:
            state = "damaged" if raw else "missing"
            raise _broken("head.json", 1, f"the head file is {state}, so records at the end may be missing")
        return
    if head.seq > checker.end.seq:
        if checker.gaps:
            raise checker.broken_gap()
        last = sizes[-1][0].name if sizes else directory.name
        raise _broken(last, 0, f"records {checker.end.seq + 1} to {head.seq} are missing from the end")


def _snapshot(directory: Path) -> tuple[ChainEnd | None, bytes, list[tuple[Path, int]]]:
    """Head and file sizes of one moment between two batches; what is appended later is not looked at."""
    if not directory.is_dir():
        return None, b"", []
    # A copy for an auditor may be read-only, and nobody appends to it.
    lock = locked(directory) if os.access(directory, os.W_OK) else contextlib.nullcontext()
    with lock:
        raw, head = read_head(directory)
        return head, raw, [(path, path.stat().st_size) for path in files(directory)]


def _lines(path: Path, size: int) -> Iterator[tuple[int, int, bytes]]:
    """(line number from 1, offset, line with its newline if it has one), up to ``size`` bytes."""
    with path.open("rb") as f:
        number, offset = 0, 0
        while offset < size:
            raw = f.readline(min(MAX_LINE, size - offset))
            if not raw:
                raise _broken(path.name, number, "the file got shorter while it was read")
            number += 1
            yield number, offset, raw
            offset += len(raw)


def tail(directory: Path, count: int) -> list[dict[str, Any]]:
    """The last ``count`` records, oldest first; lines that are no records are left out (``verify`` reports them)."""
    found: list[dict[str, Any]] = []
    for path in reversed(files(directory)):
        if len(found) >= count:
            break
        found = _last_of(path, count - len(found)) + found
    return found


def _last_of(path: Path, count: int) -> list[dict[str, Any]]:
    size = path.stat().st_size
    window = count * 1024
    while True:
        start = max(0, size - window)
        found = [record for _, record in records(path, start)]
        if start == 0 or len(found) >= count:
            return found[-count:]
        window *= 4


def records(path: Path, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """(offset behind it, record) for each complete record of ``path`` from ``offset`` on (a line begun there is none)."""
    with path.open("rb") as f:
        f.seek(offset)
        while (raw := f.readline(MAX_LINE)).endswith(b"\n"):
            offset += len(raw)
            record = unseal(raw[:-1])
            if record is not None:
                yield offset, record


def _broken(file: str, line: int, why: str) -> AuditBroken:
    return AuditBroken(
        f"the audit is broken at {file}, line {line}: {why}",
        remedy="keep the files as evidence: move the directory aside, find out who could write to it; "
        "hm starts a new chain",
        file=file,
        line=line,
    )
