"""Which calls may be made a second time when their server ended in the middle of the first.  Pure."""

from __future__ import annotations

from typing import Final

from gateway.lock import LockedServer

# Requests that change nothing by their definition (2025-11-25, server/*); a tool must say so itself.
READING: Final = frozenset({"prompts/get", "resources/read", "completion/complete"})


def is_repeatable(server: LockedServer, method: str, name: str) -> bool:
    """Whether doing it twice is as good as once, as the locked listing says (server/tools, ``ToolAnnotations``)."""
    if method in READING:
        return True
    if method != "tools/call":
        return False
    for tool in server.listing.get("tools") or ():
        if tool.get("name") == name:
            hints = tool.get("annotations")
            return isinstance(hints, dict) and (
                hints.get("idempotentHint") is True or hints.get("readOnlyHint") is True
            )
    return False
