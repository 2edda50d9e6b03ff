"""``secrets/index.json``: which secrets there are and where each value is.  Names and times; never a value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from harbourmaster.core.secrets.errors import SecretInvalid, SecretsDamaged
from harbourmaster.core.secrets.model import STORED, Kind, SecretId, Source
from harbourmaster.core.secrets.private import read_private, write_private

VERSION = 1


@dataclass(frozen=True)
class Held:
    """``created`` and ``changed``: RFC 3339, UTC.  ``changed`` is when it was last set or rotated."""

    id: SecretId
    source: Source
    created: str
    changed: str


Index = dict[SecretId, Held]


def read_index(path: Path) -> Index:
    """Raises ``SecretsDamaged`` and ``SecretsExposed``: a command named in it is run."""
    raw = read_private(path)
    if raw is None:
        return {}
    try:
        body = json.loads(raw)
        if body["version"] != VERSION:
            raise ValueError(f"version {body['version']!r}")
        return {held.id: held for held in map(_held, body["secrets"])}
    except (ValueError, KeyError, TypeError, SecretInvalid) as e:
        raise SecretsDamaged(
            f"{path} cannot be read: {e}", remedy="restore it from your backup; it was not touched"
        ) from e


def write_index(path: Path, index: Index) -> None:
    rows = [_row(held) for _, held in sorted(index.items())]
    write_private(path, json.dumps({"version": VERSION, "secrets": rows}, indent=2).encode() + b"\n")


def _held(row: dict[str, Any]) -> Held:
    kind, words = row["kind"], tuple(row.get("words", ()))
    if kind not in get_args(Kind) or not all(isinstance(w, str) for w in words) or bool(words) == (kind in STORED):
        raise ValueError(f"source {kind!r}")
    return Held(SecretId(row["server"], row["name"]), Source(kind, words), str(row["created"]), str(row["changed"]))


def _row(held: Held) -> dict[str, Any]:
    row: dict[str, Any] = {"server": held.id.server, "name": held.id.name, "kind": held.source.kind}
    if held.source.words:
        row["words"] = list(held.source.words)
    return row | {"created": held.created, "changed": held.changed}
