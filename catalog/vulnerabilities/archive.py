"""OSV records out of a folder, a zip or a tar of any compression: read as a stream, nothing unpacked, everything bounded."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from catalog.errors import SourceUnreadable

MAX_RECORD_BYTES = 4 << 20  # the largest records (Linux kernel) are below 1 MiB
MAX_RECORDS = 1_000_000
MAX_TOTAL_BYTES = 8 << 30
SUFFIXES = (".json", ".yaml", ".yml")


def read_records(place: Path) -> Iterator[tuple[str, bytes | str]]:
    """``(name, bytes)`` of each record file, or ``(name, why not)``."""
    total = 0
    for number, (name, data) in enumerate(_members(place)):
        total += len(data)
        if number >= MAX_RECORDS or total > MAX_TOTAL_BYTES:
            raise SourceUnreadable(
                f"{place} holds more than {MAX_RECORDS} records or {MAX_TOTAL_BYTES} bytes", remedy="split it"
            )
        yield name, data


def _members(place: Path) -> Iterator[tuple[str, bytes | str]]:
    try:
        if place.is_dir():
            yield from _folder(place)
        elif zipfile.is_zipfile(place):
            yield from _zip(place)
        else:
            yield from _tar(place)
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as e:
        raise SourceUnreadable(f"{place} cannot be read: {e}", remedy="give a folder, zip or tar of OSV records") from e


def _folder(place: Path) -> Iterator[tuple[str, bytes | str]]:
    for path in sorted(p for p in place.rglob("*") if p.suffix in SUFFIXES and p.is_file() and not p.is_symlink()):
        with path.open("rb") as f:
            yield str(path.relative_to(place)), _bounded(f)


def _zip(place: Path) -> Iterator[tuple[str, bytes | str]]:
    with zipfile.ZipFile(place) as archive:
        for info in archive.infolist():
            if info.filename.endswith(SUFFIXES) and not info.is_dir():
                with archive.open(info) as f:
                    yield info.filename, _bounded(f)


def _tar(place: Path) -> Iterator[tuple[str, bytes | str]]:
    with tarfile.open(place, mode="r|*") as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(SUFFIXES) and (f := archive.extractfile(member)) is not None:
                yield member.name, _bounded(f)


def _bounded(f: IO[bytes]) -> bytes | str:
    data = f.read(MAX_RECORD_BYTES + 1)
    return f"larger than {MAX_RECORD_BYTES} bytes" if len(data) > MAX_RECORD_BYTES else data
