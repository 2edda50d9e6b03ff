"""What leaves the lists because a running server says something else of it than was locked.  Pure.

The text in a list is the lock's in any case; but nothing is offered that would be refused when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.authorization.authorizer import Held
from gateway.drift import Drift
from gateway.lock import LockedServer

# Part of a listing -> what policies call its items.
KINDS: Final[Mapping[str, str]] = {
    "tools": "Tool",
    "prompts": "Prompt",
    "resources": "Resource",
    "resourceTemplates": "Resource",
}


def hidden(held: Held, server: LockedServer, drift: Drift, lock: Mapping[str, LockedServer]) -> Held:
    """``held`` and what changed by ``drift``; the same object where that is nothing new, or about an old lock."""
    kind, locked = KINDS.get(drift.part), lock.get(server.name)
    known = held.get(server.name, frozenset())
    now = known | {(kind, name) for name in drift.changed} if kind is not None else known
    if now == known or locked is None or (locked.pin, locked.image) != (server.pin, server.image):
        return held
    return {**held, server.name: now}


def still_hidden(held: Held, before: Mapping[str, LockedServer], lock: Mapping[str, LockedServer]) -> Held:
    """``held`` without the servers that are locked anew, or no more; the same object where all stay."""
    kept = {name: each for name, each in held.items() if name in lock and _line(name, before) == _line(name, lock)}
    return held if len(kept) == len(held) else kept


def _line(name: str, lock: Mapping[str, LockedServer]) -> tuple[str, str] | None:
    server = lock.get(name)
    return (server.pin, server.image) if server is not None else None
