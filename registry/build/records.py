"""HM_HOME/builds.json: which inputs each image was made of, so that nothing is made twice."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harbourmaster.core.files import file_lock, write_atomic


@dataclass(frozen=True)
class BuildRecord:
    inputs: str  # digest over entry, locks, bases and builder version
    manifest: str
    config: str
    install: str  # digest over what the server layer depends on: locks, builder base, builder version
    layer: str  # digest of the server layer
    base: str  # manifest digest of the runtime base
    builder: str  # manifest digest of the builder base
    base_origin: str
    materials: tuple[tuple[str, str, str], ...]  # (purl, hash algorithm, hex) of every package that was installed
    started: str  # RFC 3339, UTC
    finished: str
    papers: str = ""  # what the attached papers were made with and by; empty until they are attached


class BuildRecords:
    def __init__(self, home: Path) -> None:
        self._path = home / "builds.json"

    def all(self) -> dict[str, BuildRecord]:
        try:
            body = json.loads(self._path.read_bytes())
            return {name: _record(record) for name, record in body["builds"].items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, IndexError):
            return {}  # then everything is built again, to the same bytes

    def put(self, name: str, record: BuildRecord) -> None:
        with file_lock(self._path.with_suffix(".lock")):
            builds = {n: asdict(r) for n, r in (self.all() | {name: record}).items()}
            body = json.dumps({"version": 1, "builds": builds}, indent=2, sort_keys=True)
            write_atomic(self._path, f"{body}\n".encode())


def _record(body: dict[str, Any]) -> BuildRecord:
    return BuildRecord(**body | {"materials": tuple((m[0], m[1], m[2]) for m in body["materials"])})
