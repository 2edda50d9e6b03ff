"""The server: what is on offer, behind the SDK's own protocol machinery."""

from __future__ import annotations

from typing import Any

import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError

from . import offers, tasks
from .asking import Conversation, Suspended
from .asking_tools import asking
from .shelf import Call, Outcome
from .tools import changes, plain

NAME = "conformance"
SHELF = plain.on(asking).on(tasks.jobs)
Ctx = ServerRequestContext[Any]
Page = types.PaginatedRequestParams | None


async def list_tools(ctx: Ctx, params: Page) -> types.ListToolsResult:
    return types.ListToolsResult(tools=SHELF.tools)


async def call_tool(ctx: Ctx, params: types.CallToolRequestParams) -> Outcome:
    run = SHELF.run.get(params.name)
    if run is None:
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
    try:
        return await run(Call(ctx, params, Conversation(ctx, params)))
    except Suspended as e:
        return e.result


async def list_prompts(ctx: Ctx, params: Page) -> types.ListPromptsResult:
    return types.ListPromptsResult(prompts=offers.PROMPTS)


async def get_prompt(
    ctx: Ctx, params: types.GetPromptRequestParams
) -> types.GetPromptResult | types.InputRequiredResult:
    try:
        return await offers.prompt(params, Conversation(ctx, params))
    except Suspended as e:
        return e.result


async def list_resources(ctx: Ctx, params: Page) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=offers.RESOURCES)


async def list_templates(ctx: Ctx, params: Page) -> types.ListResourceTemplatesResult:
    return types.ListResourceTemplatesResult(resource_templates=offers.TEMPLATES)


async def read_resource(ctx: Ctx, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    return offers.resource(str(params.uri), ctx.protocol_version)


async def complete(ctx: Ctx, params: types.CompleteRequestParams) -> types.CompleteResult:
    return offers.completion(params)


async def done(ctx: Ctx, params: Any) -> types.EmptyResult:
    """Nothing here ever changes, so a subscription or a log level has nothing to remember."""
    return types.EmptyResult()


def build() -> Server[Any]:
    hint = CacheHint(ttl_ms=1000, scope="private")
    cached = ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read")
    server: Server[Any] = Server(
        NAME,
        version="1",
        cache_hints=dict.fromkeys(cached, hint),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=done,
        on_unsubscribe_resource=done,
        on_subscriptions_listen=ListenHandler(changes),
        on_set_logging_level=done,
        on_completion=complete,
        get_tool_input_schema={tool.name: tool.input_schema for tool in SHELF.tools}.get,
    )
    tasks.serve(server)
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=NAME))
    return server
