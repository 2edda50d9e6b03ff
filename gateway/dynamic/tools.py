"""The gateway's own tools, as a client of a dynamic profile sees them: a server like any other, that no sandbox runs."""

from __future__ import annotations

import functools
from typing import Any, Final

from gateway.lock import LockedServer, pin_of

OURS: Final = "harbourmaster"  # no locked server is served under this name in a dynamic profile

FIND: Final = "mcp-find"
ADD: Final = "mcp-add"
REMOVE: Final = "mcp-remove"
CONFIG: Final = "mcp-config-set"
EXEC: Final = "mcp-exec"
CODE: Final = "mcp-code"

MAX_FOUND: Final = 20
USUAL_FOUND: Final = 5

INSTRUCTIONS: Final = (
    "Few tools are listed at first. Use mcp-find to look for tools by what they do; its answer has each tool's name, "
    "arguments and state. A tool whose state is ready is called with mcp-exec. A server whose state is addable is added "
    "first with mcp-add, which asks the person what it may touch; mcp-config-set gives it values it needs."
)


def _tool(name: str, title: str, text: str, schema: dict[str, Any], **hints: bool) -> dict[str, Any]:
    body = {"type": "object", "additionalProperties": False, **schema}
    return {"name": name, "title": title, "description": text, "inputSchema": body, "annotations": hints}


_NAME: Final = {"type": "string", "description": "the server's name, as mcp-find gives it"}

_TOOLS: Final = (
    _tool(
        FIND,
        "Find tools",
        "Search all servers and their tools by what they do.",
        {
            "properties": {
                "query": {"type": "string", "description": "a few words: convert time zones"},
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_FOUND, "default": USUAL_FOUND},
            },
            "required": ["query"],
        },
        readOnlyHint=True,
        openWorldHint=False,
    ),
    _tool(
        ADD,
        "Add a server",
        "Add a server to this conversation. Its answer may say what the server may touch and ask for accept: pass that "
        "value only when the person agrees.",
        {
            "properties": {
                "name": _NAME,
                "accept": {"type": "string", "description": "what a first call's answer asked for"},
            },
            "required": ["name"],
        },
        readOnlyHint=False,
        destructiveHint=False,
        idempotentHint=True,
        openWorldHint=False,
    ),
    _tool(
        REMOVE,
        "Remove a server",
        "Take a server out of this conversation.",
        {"properties": {"name": _NAME}, "required": ["name"]},
        readOnlyHint=False,
        destructiveHint=False,
        idempotentHint=True,
        openWorldHint=False,
    ),
    _tool(
        CONFIG,
        "Configure a server",
        "Set values that a server takes. Never secrets: those a person sets with hm secret set.",
        {
            "properties": {"server": _NAME, "values": {"type": "object", "description": "parameter: value"}},
            "required": ["server", "values"],
        },
        readOnlyHint=False,
        destructiveHint=False,
        idempotentHint=True,
        openWorldHint=False,
    ),
    _tool(
        EXEC,
        "Execute a tool",
        "Call a tool that mcp-find shows as ready, or that belongs to an added server.",
        {
            "properties": {
                "name": {"type": "string", "description": "the tool's name, as mcp-find gives it"},
                "arguments": {"type": "object", "description": "as its inputSchema says"},
            },
            "required": ["name"],
        },
    ),
)

_CODE: Final = _tool(
    CODE,
    "Run a script that calls tools",
    "Run Python 3 in a sandbox without network. call(name, arguments) calls a tool as mcp-exec does and returns its "
    "structured content, else its text; it raises ToolError. What the script prints, and the value it gives result(), "
    "come back. Use it for many calls whose answers only need to be combined.",
    {
        "properties": {
            "script": {"type": "string", "maxLength": 100_000},
            "seconds": {"type": "integer", "minimum": 1, "maximum": 300, "default": 60},
        },
        "required": ["script"],
    },
)


@functools.cache
def own_server(*, code: bool) -> LockedServer:
    """What stands in the index for the gateway's own tools."""
    listing: dict[str, Any] = {
        "protocolVersion": "2026-07-28",  # they speak each client's own
        "serverInfo": {"name": OURS, "version": "1"},
        "capabilities": {"tools": {}},
        "instructions": INSTRUCTIONS,
        "tools": [*_TOOLS, *([_CODE] if code else [])],
    }
    return LockedServer(OURS, "built", "1", "", "", "", "", "", pin_of(listing), True, listing)
