"""HM_HOME/builds.json: which inputs each image was made of, so that nothing is made twice."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from harbourmaster.core.files import file_lock, write_atomic


@dataclass(frozen=True)
class BuildRecord:
    inputs: str  # digest over entry, locks, bases and builder version
    manifest: str
    config: str
    papers: str = ""  # digest over what the papers were made of; empty until they are attached
    base: str = ""  # manifest digest of the runtime base
    builder: str = ""  # manifest digest of the builder base


class BuildRecords:
    def __init__(self, home: Path) -> None:
        self._path = home / "builds.json"

    def all(self) -> dict[str, BuildRecord]:
        try:
            body = json.loads(self._path.read_bytes())
            return {name: BuildRecord(**record) for name, record in body["builds"].items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return {}  # then everything is built again, to the same bytes

    def put(self, name: str, record: BuildRecord) -> None:
        with file_lock(self._path.with_suffix(".lock")):
            builds = {n: asdict(r) for n, r in (self.all() | {name: record}).items()}
            body = json.dumps({"version": 1, "builds": builds}, indent=2, sort_keys=True)
            write_atomic(self._path, f"{body}\n".encode())
