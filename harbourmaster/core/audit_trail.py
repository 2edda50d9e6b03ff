"""The audit's files: one per day, one chain across them, several processes appending under one lock.

Every batch is written and synced under ``flock``.  A process remembers where it left the chain; when another appended
since, it reads the last record again.  ``head.json`` holds the chain's end, written after the records are on disk, so
that records removed from the end are missed.  What a crash left half-written stays where it is, and the next record
says so (``kind: audit, event: torn``) with its place, length and hash; so is everything else that should not have
happened: a chain shorter than its head (``lost``), a head that is gone (``head_missing``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from harbourmaster.core.audit_chain import MAX_LINE, NOTICE, ChainEnd, seal, unseal
from harbourmaster.core.files import SECRET_MODE, file_lock, make_private_dir

PATTERN = "audit-" + "[0-9]" * 8 + ".jsonl"
HEAD = "head.json"
LOCK = ".lock"
_BLOCK = 64 << 10

Stamped = tuple[float, dict[str, Any]]  # seconds since the epoch, checked record


@dataclass(frozen=True)
class Torn:
    """Bytes at the end of ``file`` that are no record: what a crash in the middle of a write leaves."""

    file: str
    offset: int
    data: bytes

    def facts(self) -> dict[str, Any]:
        return {
            "torn_file": self.file,
            "torn_offset": self.offset,
            "torn_bytes": len(self.data),
            "torn_sha256": hashlib.sha256(self.data).hexdigest(),
        }


@dataclass(frozen=True)
class _Place:
    """Where the chain stood when this process last held the lock: file, its inode and size, the head's bytes."""

    path: Path
    inode: int
    size: int
    head: bytes


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob(PATTERN))


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    with file_lock(directory / LOCK):
        yield


def read_head(directory: Path) -> tuple[bytes, ChainEnd | None]:
    """The head's bytes and what they say; (b"", None) where it is missing, None where it is damaged."""
    try:
        raw = (directory / HEAD).read_bytes()
        body = orjson.loads(raw)
        return raw, ChainEnd(int(body["seq"]), str(body["hash"]))
    except FileNotFoundError:
        return b"", None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return raw, None


class Trail:
    """Appends sealed records; every method raises ``OSError`` when the disk does.  One thread at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = make_private_dir(directory)
        self._place: _Place | None = None
        self._end = ChainEnd()
        self._notices: list[dict[str, Any]] = []

    def append(self, records: Sequence[Stamped]) -> list[bytes]:
        """Write ``records`` and sync them; returns their lines."""
        make_private_dir(self._directory)
        with locked(self._directory):
            path, torn = self._synced()
            notices = [(time.time(), notice) for notice in self._notices]
            lines, end = _sealed(self._end, [*notices, *records])
            lead = b"\n" if any(t.file == path.name and not t.data.endswith(b"\n") for t in torn) else b""
            data = lead + b"".join(lines)
            inode, size = self._write(path, data)
            try:
                head = self._write_head(path, end)
            except OSError:  # what was refused must not be there: it is tried again
                self._place = None
                with contextlib.suppress(OSError):
                    _cut(path, size - len(data))
                raise
            self._end, self._notices = end, []
            self._place = _Place(path, inode, size, head)
        return lines[len(notices) :]

    def _synced(self) -> tuple[Path, list[Torn]]:
        """The file to append to, with ``self._end`` at the chain's end on disk; notices are queued for what is odd."""
        raw, head = read_head(self._directory)
        today = self._directory / time.strftime("audit-%Y%m%d.jsonl", time.gmtime())
        if self._place and self._is_current(self._place, raw):
            return max(today, self._place.path), []
        end, newest, torn = chain_end(self._directory)
        self._notices = _oddities(end, head, raw, self._end, torn)
        self._end = end
        # A clock set back must not put records before older ones: files are read in the order of their names.
        return max(today, newest) if newest else today, torn

    def _is_current(self, place: _Place, head: bytes) -> bool:
        try:
            info = place.path.stat()
        except FileNotFoundError:
            return False
        return (info.st_ino, info.st_size, head) == (place.inode, place.size, place.head)

    def _write(self, path: Path, data: bytes) -> tuple[int, int]:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, SECRET_MODE)
        try:
            before = os.fstat(fd).st_size
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.fdatasync(fd)
            except OSError:
                self._place = None
                with contextlib.suppress(OSError):  # what cannot be taken back is found as torn by the next append
                    os.ftruncate(fd, before)
                raise
            if before == 0:
                sync_dir(path.parent)
            info = os.fstat(fd)
            return info.st_ino, info.st_size
        finally:
            os.close(fd)

    def _write_head(self, path: Path, end: ChainEnd) -> bytes:
        """In place and always of one length, so that a crash leaves the old head or the new one: a rename and its
        syncs per batch would cost more than the batch."""
        raw = b'{"file":"%b","hash":"%b","seq":%16d}\n' % (path.name.encode(), end.hash.encode(), end.seq)
        head = self._directory / HEAD
        fd = os.open(head, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, SECRET_MODE)
        try:
            before = os.fstat(fd).st_size
            try:
                os.pwrite(fd, raw, 0)
                if before != len(raw):
                    os.ftruncate(fd, len(raw))
                    os.fsync(fd)
                    sync_dir(self._directory)
            except OSError:
                if before == 0:
                    os.ftruncate(fd, 0)
                raise
        finally:
            os.close(fd)
        return raw


def sync_dir(path: Path) -> None:
    """A new file's name is on disk only after its directory is."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _cut(path: Path, size: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.ftruncate(fd, size)
    finally:
        os.close(fd)


def _sealed(end: ChainEnd, records: Sequence[Stamped]) -> tuple[list[bytes], ChainEnd]:
    lines = []
    for moment, record in records:
        line, end = seal(end, moment, record)
        lines.append(line)
    return lines, end


def _oddities(
    end: ChainEnd, head: ChainEnd | None, raw: bytes, remembered: ChainEnd, torn: list[Torn]
) -> list[dict[str, Any]]:
    notices: list[dict[str, Any]] = [{"kind": NOTICE, "event": "torn", **place.facts()} for place in torn]
    expected = max((known for known in (head, remembered) if known), key=lambda known: known.seq)
    if head is None and (raw or end.seq):
        notices.append({"kind": NOTICE, "event": "head_missing"})
    if expected.seq > end.seq:
        notices.append({"kind": NOTICE, "event": "lost", "lost_from": end.seq + 1, "lost_to": expected.seq})
    elif expected.seq == end.seq and expected.hash != end.hash:
        notices.append({"kind": NOTICE, "event": "replaced", "replaced_hash": expected.hash})
    return notices


def chain_end(directory: Path) -> tuple[ChainEnd, Path | None, list[Torn]]:
    """(end of the chain on disk, newest file, what follows the last record and is no record, oldest first)."""
    found = files(directory)
    newest = found[-1] if found else None
    torn: list[Torn] = []
    for path in reversed(found):
        record, rest = _last_record(path)
        if rest is not None:
            torn.insert(0, rest)
        if record is not None:
            return ChainEnd(record["seq"], record["hash"]), newest, torn
    return ChainEnd(), newest, torn


def _last_record(path: Path) -> tuple[dict[str, Any] | None, Torn | None]:
    """The last line of ``path`` that is a record, and the bytes after it."""
    with path.open("rb") as f:
        size = f.seek(0, os.SEEK_END)
        start, data = size, b""
        while start > 0:
            step = min(start, _BLOCK if len(data) < MAX_LINE else len(data))
            start -= step
            f.seek(start)
            data = f.read(step) + data
            found = _search(data, start == 0)
            if found is not None:
                record, at = found
                return record, Torn(path.name, start + at, data[at:]) if at < len(data) else None
    return None, Torn(path.name, 0, data) if data else None


def _search(data: bytes, whole: bool) -> tuple[dict[str, Any], int] | None:
    """(the last record among the complete lines of ``data``, offset behind it)."""
    stop = data.rfind(b"\n")
    while stop >= 0:
        begin = data.rfind(b"\n", 0, stop) + 1
        if begin == 0 and not whole:
            return None
        record = unseal(data[begin:stop])
        if record is not None:
            return record, stop + 1
        stop = begin - 1
    return None
