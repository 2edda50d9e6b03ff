"""What running servers were held for: ``HM_HOME/held/NAME.json``, so that a person can review it and approve it.

One file per server: ``{"pin", "image", "seen", "parts": {part: {"changed": {name: [item]}, "added": {...}, "missing":
[name]}}}``.  ``pin`` and ``image`` say which line of the lock it differs from; a file about another line is old and is not
believed.  Nothing here decides what runs: the gateway compares for itself.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.drift import INSTRUCTIONS, LISTS, Drift
from gateway.lock import LockedServer, pin_of
from harbourmaster.core.files import SECRET_MODE, write_atomic

Parts = dict[str, dict[str, Any]]


class HeldFiles:
    """Blocking; for threads.  Several may write: the last look at a part of a server counts."""

    def __init__(self, directory: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._directory = directory
        self._now = now
        self._guard = threading.Lock()

    def path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def names(self) -> list[str]:
        """The servers that there are files of, old ones too."""
        return sorted(path.stem for path in self._directory.glob("*.json"))

    def read(self, server: LockedServer) -> Parts:
        """What differs from ``server`` as it is locked; empty when nothing does or the file cannot be understood."""
        try:
            body = json.loads(self.path(server.name).read_bytes())
            current = (body["pin"], body["image"]) == (server.pin, server.image)
            return {p: _part(body["parts"][p]) for p in (*LISTS, INSTRUCTIONS) if p in body["parts"]} if current else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def note(self, server: LockedServer, drift: Drift) -> None:
        """Remember ``drift``; nothing is written when it is known."""
        with self._guard:
            parts = self.read(server)
            before = parts.get(drift.part, {})
            known = before or {"changed": {}, "added": {}, "missing": []}
            found: dict[str, Any] = (
                {"changed": dict(drift.changed), "added": dict(drift.added)} if drift.telling else dict(known)
            )
            found["missing"] = sorted({*known["missing"], *drift.missing})
            if found == before:
                return
            body = {"pin": server.pin, "image": server.image, "seen": self._now().isoformat(timespec="seconds")}
            data = json.dumps({**body, "parts": {**parts, drift.part: found}}, indent=1, sort_keys=True)
            write_atomic(self.path(server.name), data.encode("utf-8", "backslashreplace") + b"\n", mode=SECRET_MODE)

    def forget(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)


def approved(server: LockedServer, parts: Parts) -> LockedServer:
    """The lock's line with what was held in the place of what was locked.  Pure."""
    listing = dict(server.listing)
    for part, found in parts.items():
        if part == INSTRUCTIONS:
            (listing[part],) = next(iter((found["changed"] | found["added"]).values()))
        else:
            listing[part] = _merged(listing.get(part) or [], LISTS[part][2], found)
    return replace(server, listing=listing, pin=pin_of(listing))


def _merged(locked: list[Any], key: str, found: dict[str, Any]) -> list[Any]:
    """Changed items stand where the first of their name stood; added ones come last."""
    changed = dict(found["changed"])
    merged: list[Any] = []
    for item in locked:
        name = item[key]
        if name in found["changed"]:
            merged += changed.pop(name, [])
        elif name not in found["missing"]:
            merged.append(item)
    return merged + [item for items in found["added"].values() for item in items]


def _part(body: dict[str, Any]) -> dict[str, Any]:
    """Raises for anything but what ``note`` wrote."""
    changed, added, missing = body["changed"], body["added"], body["missing"]
    if not all(isinstance(items, list) and items for items in (*changed.values(), *added.values())):
        raise ValueError("not a list of items")
    if not all(isinstance(name, str) for name in missing):
        raise ValueError("not a list of names")
    return {"changed": changed, "added": added, "missing": missing}
