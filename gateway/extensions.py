"""Extensions of the protocol, and tasks: what servers declare of them, and what clients are therefore offered.  Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from gateway import eras
from gateway.lock import LockedServer

# Those that live in tools and resources alone, and so pass through.  SEP-1865: tools that bring a page of their own
PASSED: Final = ("io.modelcontextprotocol/ui",)
_TASKS: Final[dict[str, Any]] = {
    "cancel": {},
    "requests": {"tools": {"call": {}}},
}  # 2025-11-25: what of tasks a session is offered

Servers = Collection[LockedServer]


def handshake_only(servers: Servers, *, every: bool) -> dict[str, Any]:
    """Capabilities that only clients of that era are offered.  ``every``: what no server offers yet too."""
    tasks = every or any(has_tasks(s) for s in servers if not _modern(s))
    return {**({"tasks": _TASKS} if tasks else {}), **named(offered_extensions(servers, modern=False, every=every))}


def offered_extensions(servers: Servers, *, modern: bool, every: bool) -> dict[str, Any]:
    """Identifier -> settings; where two servers differ in them, the first's."""
    found: dict[str, Any] = {}
    for server in servers:
        said = _part(server.listing, "capabilities", "extensions")
        found = {name: settings for name, settings in said.items() if name in PASSED} | found
    if modern and (every or any(has_tasks(s) for s in servers if _modern(s))):
        found[eras.TASKS_EXTENSION] = {}
    return found


def named(extensions: dict[str, Any]) -> dict[str, Any]:
    """As a capability; none where there are none."""
    return {"extensions": extensions} if extensions else {}


def has_tasks(server: LockedServer) -> bool:
    """Whether its tool calls may become tasks, and its sandbox is one client's for long enough to be asked about them."""
    lasting = server.run.get("ephemeral") != "call" and server.run.get("stateless") is not True
    return lasting and declares_tasks(server)


def declares_tasks(server: LockedServer) -> bool:
    """Whether it says, in the words of its era, that its tool calls may become tasks."""
    if _modern(server):
        return eras.wants_tasks(_part(server.listing, "capabilities"))
    return "call" in _part(server.listing, "capabilities", "tasks", "requests", "tools")


def _modern(server: LockedServer) -> bool:
    return eras.is_modern(server.listing["protocolVersion"])


def _part(listing: Any, *keys: str) -> dict[str, Any]:
    """An object within ``listing``; empty where a server says something else there."""
    for key in keys:
        listing = listing.get(key) if isinstance(listing, dict) else None
    return listing if isinstance(listing, dict) else {}
