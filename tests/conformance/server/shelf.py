"""Where tools are put on offer: a name, what the listing says, and what runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext

from .asking import Conversation

Outcome = types.CallToolResult | types.InputRequiredResult


@dataclass(frozen=True)
class Call:
    """One tool call: its arguments, the request it came in, and the way to ask back."""

    ctx: ServerRequestContext
    params: types.CallToolRequestParams
    client: Conversation

    @property
    def arguments(self) -> dict[str, Any]:
        return self.params.arguments or {}


Run = Callable[[Call], Awaitable[types.CallToolResult]]


@dataclass
class Shelf:
    tools: list[types.Tool] = field(default_factory=list)
    run: dict[str, Run] = field(default_factory=dict)

    def tool(
        self,
        name: str,
        description: str,
        properties: dict[str, Any] | None = None,
        *,
        required: list[str] | None = None,
        schema: dict[str, Any] | None = None,
    ) -> Callable[[Run], Run]:
        """Put the decorated function on offer; ``schema`` takes the place of one made of ``properties``."""
        if schema is None:
            schema = {"type": "object", "properties": properties or {}}
            if required:
                schema["required"] = required

        def put(run: Run) -> Run:
            self.tools.append(types.Tool(name=name, description=description, input_schema=schema))
            self.run[name] = run
            return run

        return put

    def on(self, other: Shelf) -> Shelf:
        return Shelf(self.tools + other.tools, self.run | other.run)
