"""Reading ``registry/servers/<name>/server.yaml``.  Strict: what is not in the form is refused, with file, line, key and remedy.

Docker's own form of the file is read too (``registry.dialect``): it is told by the lack of ``tier``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from registry import entry_checks
from registry.advice import Advice
from registry.build.errors import EntryInvalid, EntryNotFound
from registry.dialect import dialect_name, from_docker, is_docker
from registry.entry import ENTRY_FILE, Call, Entry
from registry.entry_file import Document, Path_, dotted, parse_document, read_document, refuse
from registry.fields import CATEGORIES

__all__ = [
    "CATEGORIES",
    "ENTRY_FILE",
    "Call",
    "Entry",
    "known_folder",
    "load_entries",
    "load_entry",
    "parse_entry",
    "read_entry",
]

MAX_SERVERS = 10_000


@dataclass(frozen=True)
class Reading:
    """An entry, and what is worth saying of it though it may stand."""

    entry: Entry
    advice: tuple[Advice, ...]
    foreign: bool = False  # written in Docker's form


def load_entry(directory: Path) -> Entry:
    """Read ``directory/server.yaml``; raises ``EntryInvalid`` that names file, line and key."""
    return read_entry(directory).entry


def read_entry(directory: Path) -> Reading:
    """As ``load_entry``, with the advice."""
    reading = _validate(read_document(directory / ENTRY_FILE))
    name = reading.entry.name
    if name != (dialect_name(directory.name) if reading.foreign else directory.name):
        path = directory / ENTRY_FILE
        raise refuse(path, 1, ("name",), f"is {name!r}, but the folder is {directory.name!r}", "make them equal")
    return reading


def parse_entry(path: Path, raw: bytes) -> Entry:
    """As ``load_entry``, from bytes; ``path`` only names them in errors."""
    return _validate(parse_document(path, raw)).entry


def parse_reading(path: Path, raw: bytes) -> Reading:
    return _validate(parse_document(path, raw))


def known_folder(root: Path, name: str) -> Path:
    """The folder of ``name`` below ``root``; raises ``EntryNotFound`` for what is none of them."""
    if "/" in name or name in (".", "..") or not (root / name / ENTRY_FILE).is_file():
        known = ", ".join(sorted(p.parent.name for p in root.glob(f"*/{ENTRY_FILE}"))[:100])
        raise EntryNotFound(f"no server {name!r} in {root}", remedy=f"known: {known}", name=name)
    return root / name


def load_entries(root: Path, names: tuple[str, ...] = ()) -> list[Entry]:
    """Every entry below ``root``, or those that ``names`` asks for, by name.  Raises ``EntryNotFound``."""
    known = sorted(p.parent.name for p in root.glob(f"*/{ENTRY_FILE}"))[:MAX_SERVERS]
    for name in names:
        if name not in known:
            raise EntryNotFound(f"no server {name!r} in {root}", remedy=f"known: {', '.join(known)}", name=name)
    return [load_entry(root / name) for name in (names or known)]


def _validate(document: Document) -> Reading:
    if not isinstance(document.data, dict):
        raise refuse(document.path, 1, (), "an entry is a mapping", "start from another server's server.yaml")
    advice: list[Advice] = []
    if is_docker(document.data):
        document, advice = from_docker(document)
    try:
        entry = Entry.model_validate(document.data)
    except ValidationError as e:
        raise _explain(document, e) from e
    entry_checks.refuse_what_cannot_be(document, entry)
    return Reading(entry, (*advice, *entry_checks.advice(document, entry)), document.foreign)


def _explain(document: Document, error: ValidationError) -> EntryInvalid:
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])  # a typo is both unknown and missing
    key: Path_ = tuple(first["loc"])
    if first["type"] == "extra_forbidden":
        return document.at(key, "no such key", f"remove it; {_siblings(key)}")
    if first["type"] == "missing":
        return document.at(key, "is missing", "add it; docs/adding-a-server.md shows every field")
    message = str(first["msg"]).removeprefix("Value error, ")
    shown = repr(first["input"])[:80]
    problem = message if first["type"] == "value_error" else f"{message} (found {shown})"
    remedy = _REMEDIES.get(key[-1] if key else "", "docs/adding-a-server.md shows what belongs there")
    return document.at(key, problem, remedy)


_REMEDIES: dict[str | int, str] = {
    "image": "pin it: host/name:tag@sha256:..., as `hm registry new --image` writes it",
    "commit": "write the commit's 40 hex digits: a branch or tag can move",
}


def _siblings(key: Path_) -> str:
    model: Any = Entry
    for part in key[:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        model = getattr(field, "annotation", None)
        model = next((m for m in get_args(model) if hasattr(m, "model_fields")), model)  # of "Source | None"
    names = getattr(model, "model_fields", None)
    return (
        f"known under {dotted(key[:-1]) or 'the top'}: {', '.join(names)}" if names else "see docs/adding-a-server.md"
    )
