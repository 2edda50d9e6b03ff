"""Requests that were turned away at the HTTP edge, for the audit: who knocked, at which door, and how often.

A stranger decides how many there are, so they are summed up: the first of a kind is recorded at once, those that follow
within a minute are one record with their number, and kinds beyond a limit are one kind.  Never a token, a path's text, or
anything else that a stranger could use to write into the trail.  Pure but for ``record``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from gateway.profiles.schema import NAME

SPAN_S: Final = 60.0  # what follows a refusal within this is one record
KINDS: Final = 32  # told apart at one time; what is over is told by its code alone
TOLD: Final = frozenset({401, 403, 421})  # not who they say, or not where they say; other statuses are mistakes
SESSION_UNKNOWN: Final = "session.unknown"  # a session that ended, or somebody else's
DOORS: Final = ("/mcp", "/sse", "/messages", "/admin", "/metrics")

_HOST: Final = re.compile(r"(?:[a-z][a-z0-9+-]{0,15}://)?[A-Za-z0-9.:\[\]-]{1,253}")
_NOT_TOLD: Final = "(unusual)"

Record = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """``peer``: the address that connected.  ``principal``: who it was, where the token was good for that much."""

    code: str
    status: int
    peer: str = ""
    principal: str = ""
    door: str = ""
    profile: str = ""
    host: str = ""
    origin: str = ""


@dataclass(slots=True)
class _Kind:
    refused: Refused
    since: float
    more: int = 0


class Refusals:
    def __init__(self, record: Record) -> None:
        self._record = record
        self._kinds: dict[Refused, _Kind] = {}

    def note(self, refused: Refused, now: float) -> None:
        """One more; ``now`` in seconds of any clock that ``sweep`` is told too."""
        known = self._kinds.get(refused)
        if known is None and len(self._kinds) >= KINDS:
            refused = Refused(refused.code, refused.status)
            known = self._kinds.get(refused)
        if known is not None:
            known.more += 1
            return
        self._kinds[refused] = _Kind(refused, now)
        self._record(_facts(refused, "refused", 1))

    def sweep(self, now: float) -> None:
        """Record what followed in spans that are over; a kind that goes on is summed up once in each."""
        if not self._kinds:
            return
        for kind in [kind for kind in self._kinds.values() if now - kind.since >= SPAN_S]:
            self._sum_up(kind, now)

    def close(self, now: float) -> None:
        for kind in tuple(self._kinds.values()):
            self._sum_up(kind, now)
        self._kinds.clear()

    def _sum_up(self, kind: _Kind, now: float) -> None:
        if not kind.more:
            del self._kinds[kind.refused]
            return
        seconds = round(now - kind.since, 3)
        count, kind.more, kind.since = kind.more, 0, now
        self._record(_facts(kind.refused, "repeated", count) | {"seconds": seconds})


def refused(
    status: int, code: str, path: str, peer: str, *, host: str = "", origin: str = "", principal: str = ""
) -> Refused | None:
    """What is told of a refusal; None where it is a mistake of form and nobody's attempt."""
    if status not in TOLD and code != SESSION_UNKNOWN:
        return None
    door = next((d for d in DOORS if path == d or path.startswith(d + "/")), "")
    named = path[len(door) + 1 :] if door in ("/mcp", "/sse", "/messages") else ""
    return Refused(
        code,
        status,
        peer,
        principal,
        door,
        named if NAME.fullmatch(named) else _NOT_TOLD if named else "",
        _told(host) if code == "http.wrong_host" else "",
        _told(origin) if code == "http.wrong_origin" else "",
    )


def _told(text: str) -> str:
    """Only what looks like a host: a token in its place stays untold."""
    return text if _HOST.fullmatch(text) else _NOT_TOLD


def _facts(refused: Refused, event: str, count: int) -> dict[str, Any]:
    fields = ("peer", "principal", "door", "profile", "host", "origin")
    said = {field: value for field in fields if (value := getattr(refused, field))}
    return {"kind": "refusal", "event": event, "code": refused.code, "status": refused.status, "count": count, **said}
