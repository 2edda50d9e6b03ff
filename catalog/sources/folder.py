"""An mcp-registry folder: ``servers/<name>/server.yaml`` with optional ``tools.json`` and readme beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from catalog.errors import EntryUnreadable, SourceUnreadable
from catalog.records import EntryRecord, Finding, UnreadRecord
from catalog.sources.documents import MAX_ENTRY_BYTES, MAX_README_BYTES, MAX_TOOLS_BYTES, read_bounded
from catalog.sources.serverfile import read_server

MAX_FOLDERS = 50_000
ENTRY_FILE = "server.yaml"


def read_folder(root: Path) -> Iterator[EntryRecord | UnreadRecord]:
    """Every server below ``root`` (or ``root/servers``) in the order of names: a record, or why there is none."""
    place = root / "servers" if (root / "servers").is_dir() else root
    if not place.is_dir():
        raise SourceUnreadable(f"{root} is no folder", remedy="name the folder that holds servers/")
    folders = sorted(p for p in place.iterdir() if p.is_dir() or p.is_symlink())
    if not any((f / ENTRY_FILE).exists() for f in folders[:MAX_FOLDERS]):
        raise SourceUnreadable(f"{place} holds no <name>/{ENTRY_FILE}", remedy="name the folder that holds servers/")
    for folder in folders[:MAX_FOLDERS]:
        yield read_one(folder)
    if len(folders) > MAX_FOLDERS:
        yield UnreadRecord("", "limit.reached", f"only the first {MAX_FOLDERS} folders were read", "split the registry")


def read_one(folder: Path) -> EntryRecord | UnreadRecord:
    try:
        if folder.is_symlink():
            raise EntryUnreadable("the folder is a link", remedy="replace the link by the folder")
        record = read_server(
            read_bounded(folder / ENTRY_FILE, MAX_ENTRY_BYTES),
            _optional(folder / "tools.json", MAX_TOOLS_BYTES),
            _readme(folder),
        )
        if record.name != folder.name:
            raise EntryUnreadable(
                f"its name is {record.name!r}, its folder's {folder.name!r}", remedy="make them equal"
            )
    except EntryUnreadable as e:
        return UnreadRecord(folder.name, e.code, e.message, e.remedy)
    except OSError as e:
        return UnreadRecord(
            folder.name, "entry.unreadable", f"cannot be read: {e.strerror}", "check the file's permissions"
        )
    return _with_name_style(record)


def _with_name_style(record: EntryRecord) -> EntryRecord:
    if record.name == record.name.lower():
        return record
    finding = Finding("name.case", "warning", "name", "has capital letters", "write it in lower case", 1)
    return dataclasses.replace(record, findings=(*record.findings, finding))


def _optional(path: Path, limit: int) -> bytes:
    return read_bounded(path, limit) if path.exists() or path.is_symlink() else b""


def _readme(folder: Path) -> bytes:
    """A readme is for people: what is too long is cut, not refused."""
    for name in ("readme.md", "README.md"):
        path = folder / name
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as f:
                return f.read(MAX_README_BYTES)
    return b""
