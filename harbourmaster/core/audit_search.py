"""Finds records in the audit: by field, by text in any value, by age."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from harbourmaster.core import audit_trail, audit_verify
from harbourmaster.core.errors import UsageError

CHAIN = ("seq", "ts", "kind", "prev", "hash")
"""Fields that every record has beside its own facts."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Record = dict[str, Any]


def search(directory: Path, matches: Callable[[Record], bool], limit: int) -> list[Record]:
    """The newest ``limit`` records that match, oldest first."""
    found: list[Record] = []
    for path in reversed(audit_trail.files(directory)):
        found = [record for _, record in audit_verify.records(path) if matches(record)] + found
        if len(found) >= limit:
            break
    return found[-limit:]


def matcher(terms: Iterable[str], since: str = "") -> Callable[[Record], bool]:
    """``terms``: ``field=value``, or text found in any value; all must fit.  ``since``: as ``moment`` gives it."""
    pairs = [term.partition("=") for term in terms]

    def matches(record: Record) -> bool:
        if record["ts"] < since:
            return False
        for name, equals, value in pairs:
            values = [record.get(name)] if equals else list(record.values())
            texts = [as_text(found) for found in values if found is not None]
            if not any(value == text if equals else name in text for text in texts):
                return False
        return True

    return matches


def moment(since: str, now: datetime) -> str:
    """A time (2026-11-21T12:00) or an age (15m) in the form of a record's ``ts``, which sorts as text.  ``UsageError``."""
    if not since:
        return ""
    if since[:-1].isdigit() and since[-1] in _UNITS:
        found = now - timedelta(seconds=int(since[:-1]) * _UNITS[since[-1]])
    else:
        try:
            found = datetime.fromisoformat(since)
        except ValueError as e:
            raise UsageError(f"--since {since}: {e}", remedy="write 2026-11-21T12:00, or an age such as 15m") from e
        found = found.astimezone(UTC)  # a time without a zone is the machine's own
    return found.strftime("%Y-%m-%dT%H:%M:%S.") + f"{found.microsecond // 1000:03d}Z"


def as_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def ends(directory: Path) -> dict[Path, int]:
    """Where each file ends now: what is written from here on is ``written_after`` it."""
    return {path: path.stat().st_size for path in audit_trail.files(directory)}


def written_after(directory: Path, places: dict[Path, int]) -> Iterator[Record]:
    """Records that were written since ``places``, which moves on."""
    for path in audit_trail.files(directory):
        for offset, record in audit_verify.records(path, places.get(path, 0)):
            places[path] = offset
            yield record
