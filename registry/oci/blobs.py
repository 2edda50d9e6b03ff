"""Blobs by digest: whole or absent, hashed as they come in and again as they go out."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from harbourmaster.core.digests import CHUNK, DigestMismatch, expect, hex_of
from harbourmaster.core.files import PUBLIC_MODE
from registry.errors import BlobMissing, TooLarge
from registry.oci.media import MAX_LAYER_BYTES

Source = bytes | BinaryIO | Iterable[bytes]


class Ingest:
    """A blob that is being written; it takes its name on ``commit`` and vanishes without one.

    The open file holds an exclusive ``flock``, so that garbage collection can tell a live ingest from a dead one.
    """

    def __init__(self, store: BlobStore, limit: int) -> None:
        fd, name = tempfile.mkstemp(prefix="in-", dir=store.ingest_dir)
        fcntl.flock(fd, fcntl.LOCK_EX)
        self._store, self._limit, self._path = store, limit, Path(name)
        self._file = os.fdopen(fd, "wb")
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > self._limit:
            raise TooLarge(
                f"more than {self._limit} bytes came in for one blob",
                remedy="the source is broken or hostile: do not use it",
                limit=self._limit,
            )
        self._hash.update(chunk)
        self._file.write(chunk)

    def commit(self) -> str:
        """Give the blob its name (its digest, returned); one that is there stays only if its bytes are right."""
        self._file.flush()
        os.fchmod(self._file.fileno(), PUBLIC_MODE)
        os.fsync(self._file.fileno())
        target = self._store.path(self.digest)
        if self._store.is_sound(self.digest):
            os.utime(target)  # young again: garbage collection spares what is young
            self._path.unlink()
        else:
            self._path.replace(target)
            _fsync_dir(target.parent)
        self._file.close()
        return self.digest

    def __enter__(self) -> Ingest:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if not self._file.closed:
            self._path.unlink(missing_ok=True)
            self._file.close()


class BlobStore:
    def __init__(self, root: Path) -> None:
        self.directory = root / "blobs" / "sha256"
        self.ingest_dir = root / "ingest"

    def path(self, digest: str) -> Path:
        return self.directory / hex_of(digest)

    def ingest(self, limit: int = MAX_LAYER_BYTES) -> Ingest:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ingest_dir.mkdir(parents=True, exist_ok=True)
        return Ingest(self, limit)

    def put(self, source: Source, *, digest: str = "", limit: int = MAX_LAYER_BYTES) -> tuple[str, int]:
        """Store ``source``; with ``digest`` given, raise ``DigestMismatch`` and keep nothing unless it is that."""
        with self.ingest(limit) as ingest:
            for chunk in chunks_of(source):
                ingest.write(chunk)
            if digest:
                expect(digest, ingest.digest, "a blob")
            return ingest.commit(), ingest.size

    def open(self, digest: str) -> BinaryIO:
        """The blob's bytes, unchecked: callers hash what they read, or call ``verify`` or ``read``."""
        try:
            f = self.path(digest).open("rb")
        except (FileNotFoundError, IsADirectoryError):
            raise _missing(digest) from None
        if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):
            f.close()
            raise _missing(digest)
        return f

    def chunks(self, digest: str) -> Iterator[bytes]:
        """The blob's bytes; raises ``DigestMismatch`` after the last chunk when they were not what ``digest`` says."""
        h = hashlib.sha256()
        with self.open(digest) as f:
            while chunk := f.read(CHUNK):
                h.update(chunk)
                yield chunk
        expect(digest, "sha256:" + h.hexdigest(), "a blob")

    def read(self, digest: str, limit: int) -> bytes:
        """The whole blob, its digest checked."""
        if self.size(digest) > limit:
            raise TooLarge(f"{digest} is over the limit of {limit} bytes", remedy="build or pull it again", limit=limit)
        return b"".join(self.chunks(digest))

    def verify(self, digest: str) -> int:
        """Read every byte; returns the size or raises ``DigestMismatch`` or ``BlobMissing``."""
        return sum(len(chunk) for chunk in self.chunks(digest))

    def is_sound(self, digest: str) -> bool:
        try:
            self.verify(digest)
        except (DigestMismatch, BlobMissing):
            return False
        return True

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise _missing(digest) from None

    def state(self, digest: str) -> list[int]:
        """Inode, size and both times of the file: the change time tells of an edit that put the other one back."""
        try:
            s = self.path(digest).stat()
        except FileNotFoundError:
            raise _missing(digest) from None
        return [s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns]

    def all(self) -> list[str]:
        if not self.directory.is_dir():
            return []
        return sorted("sha256:" + p.name for p in self.directory.iterdir() if len(p.name) == 64)

    def remove(self, digest: str) -> int:
        """Remove the blob; returns the bytes freed, 0 when it was not there."""
        path = self.path(digest)
        try:
            freed = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return freed

    def remove_dead_ingests(self) -> None:
        """Remove what crashed writers left behind; a live one holds its lock."""
        for path in self.ingest_dir.glob("in-*"):
            with contextlib.suppress(OSError), path.open("rb") as f:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def chunks_of(source: Source) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
    elif hasattr(source, "read"):
        yield from iter(lambda: source.read(CHUNK), b"")
    else:
        yield from source


def _missing(digest: str) -> BlobMissing:
    return BlobMissing(f"blob {digest} is not in the layout", remedy="build or pull the image again", digest=digest)


def _fsync_dir(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
