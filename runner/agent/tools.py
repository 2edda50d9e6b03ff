"""Tools of a gateway, over MCP (Streamable HTTP, bearer token): what any other client of it sees."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from harbourmaster import __version__
from runner.agent.events import Tool, ToolResult
from runner.errors import ToolsRefused, ToolsUnavailable

CALL_S = 180.0  # over the gateway's own limit for a call, so that its explanation comes first
CONNECT_S = 5.0
LIST_S = 30.0  # for the handshake and the list of tools; a gateway starts no server for them
# A session is the run's own: its sandboxes end with it, and no other run of the same token shares what servers remember.
# Revisions without sessions have nothing like it.
MODE = "legacy"
MAX_PAGES = 100
MAX_TOOLS = 2000
_INFO = types.Implementation(name="harbourmaster-agent", version=__version__)


class McpTools:
    def __init__(self, client: Client, tools: Sequence[Tool]) -> None:
        self.tools = tools
        self.instructions = client.instructions or ""
        self._client = client

    async def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        try:
            result = await self._client.call_tool(name, arguments)
        except MCPError as e:  # the gateway's refusals come this way: the model should read why
            return ToolResult(str(e), is_error=True)
        except (httpx2.HTTPError, OSError, ExceptionGroup) as e:
            raise ToolsUnavailable(
                f"the gateway went away during {name}: {reason(e)}", remedy="start the gateway again: hm up"
            ) from e
        return ToolResult(text_of(result), bool(result.is_error), result.structured_content)


@contextlib.asynccontextmanager
async def connect(url: str, token: str, *, headers: dict[str, str] | None = None) -> AsyncIterator[McpTools]:
    """Raises ``ToolsRefused`` (the token) or ``ToolsUnavailable``.  Environment proxies are not used: they would get the token."""
    sent = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    carrier = httpx2.AsyncClient(headers=sent, timeout=httpx2.Timeout(CALL_S, connect=CONNECT_S), trust_env=False)
    failure: Exception | None = None
    async with carrier, contextlib.AsyncExitStack() as stack:
        status = _Status()
        carrier.event_hooks = {"response": [status.note]}
        try:
            async with asyncio.timeout(LIST_S):
                transport = streamable_http_client(url, http_client=carrier)
                client = await stack.enter_async_context(Client(transport, client_info=_INFO, mode=MODE))
                tools = await _tools(client)
        except (MCPError, httpx2.HTTPError, OSError, ExceptionGroup) as e:
            raise _no_tools(url, e, status.last) from e
        try:
            yield McpTools(client, tools)
        except Exception as e:  # the caller's own: the client's task groups would wrap it in groups of exceptions
            failure = e
    if failure:
        raise failure


class _Status:
    """The client library hides HTTP statuses in its errors; people need to know a wrong token from a missing gateway."""

    last = 0

    async def note(self, response: httpx2.Response) -> None:
        self.last = response.status_code


async def _tools(client: Client) -> list[Tool]:
    tools: list[Tool] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += [_tool(t) for t in page.tools]
        cursor = page.next_cursor
        if not cursor or len(tools) > MAX_TOOLS:
            break
    return tools[:MAX_TOOLS]


def _tool(tool: types.Tool) -> Tool:
    hints = tool.annotations
    return Tool(
        name=tool.name,
        description=tool.description or "",
        parameters=tool.input_schema,
        read_only=bool(hints and hints.read_only_hint),
        title=tool.title or (hints.title if hints and hints.title else ""),
    )


def text_of(result: types.CallToolResult) -> str:
    """A result as the text that a model reads; what is no text is named, not dropped silently."""
    texts = [_part(part) for part in result.content]
    if not texts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(texts)


def _part(part: Any) -> str:
    if isinstance(part, types.TextContent):
        return part.text
    if isinstance(part, types.EmbeddedResource):
        resource = part.resource
        if isinstance(resource, types.TextResourceContents):
            return resource.text
        return f"[a resource that is no text: {resource.uri}]"
    if isinstance(part, types.ResourceLink):
        return f"[a resource: {part.uri}]"
    kind = getattr(part, "mime_type", None) or part.type
    return f"[a part of type {kind}, which is not shown to the model]"


def _no_tools(url: str, error: BaseException, status: int) -> ToolsRefused | ToolsUnavailable:
    if status in (401, 403):
        return ToolsRefused(
            f"the gateway at {url} refuses the token", remedy="give one: hm token show, HM_GATEWAY_TOKEN"
        )
    if status == 404:
        return ToolsUnavailable(f"there is no MCP endpoint at {url}", remedy="check the address and the profile's name")
    return ToolsUnavailable(
        f"no gateway answers at {url}: {reason(error)}", remedy="start one: hm up, or give --gateway"
    )


def reason(error: BaseException) -> str:
    """The innermost words of an error in groups of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
