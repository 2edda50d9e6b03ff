"""Tools that answer by themselves."""

from __future__ import annotations

from typing import Any

import anyio
import mcp_types as types
from mcp.server.subscriptions import InMemorySubscriptionBus, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPError

from .content import picture, said, sound
from .shelf import Call, Shelf

LONG_S = 1.5
PAUSE_S = 0.05  # between two notifications, as the scenarios describe it

plain = Shelf()
changes = InMemorySubscriptionBus()


def embedded(uri: str, mime_type: str, words: str) -> types.EmbeddedResource:
    resource = types.TextResourceContents(uri=uri, mime_type=mime_type, text=words)
    return types.EmbeddedResource(type="resource", resource=resource)


@plain.tool("test_simple_text", "Answers with one line of text")
async def simple_text(call: Call) -> types.CallToolResult:
    return said("This is a simple text response for testing.")


@plain.tool("test_image_content", "Answers with a picture")
async def image_content(call: Call) -> types.CallToolResult:
    return said(picture())


@plain.tool("test_audio_content", "Answers with a sound")
async def audio_content(call: Call) -> types.CallToolResult:
    return said(sound())


@plain.tool("test_embedded_resource", "Answers with a resource inside its result")
async def embedded_resource(call: Call) -> types.CallToolResult:
    return said(embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."))


@plain.tool("test_multiple_content_types", "Answers with text, a picture and a resource")
async def multiple_content_types(call: Call) -> types.CallToolResult:
    data = embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return said("Multiple content types test:", picture(), data)


@plain.tool("test_error_handling", "Always fails")
async def error_handling(call: Call) -> types.CallToolResult:
    failed = said("This tool intentionally returns an error for testing")
    failed.is_error = True
    return failed


@plain.tool("test_tool_with_logging", "Logs three times while it works")
async def tool_with_logging(call: Call) -> types.CallToolResult:
    for number, words in enumerate(("Tool execution started", "Tool processing data", "Tool execution completed")):
        if number:
            await anyio.sleep(PAUSE_S)
        await log(call, words)
    return said("Logged three times")


@plain.tool("test_logging_tool", "Logs, for those who asked for that")
async def logging_tool(call: Call) -> types.CallToolResult:
    await log(call, "A message for whoever asked for log messages")
    return said("Logged")


async def log(call: Call, words: str) -> None:
    await call.ctx.session.send_log_message("info", words, "conformance", related_request_id=call.ctx.request_id)


@plain.tool("test_tool_with_progress", "Reports how far it is")
async def tool_with_progress(call: Call) -> types.CallToolResult:
    for progress in (0, 50, 100):
        if progress:
            await anyio.sleep(PAUSE_S)
        await call.ctx.session.report_progress(progress, 100)
    return said("Done")


@plain.tool("test_reconnection", "Ends its own stream before it answers, so that the client must come back")
async def reconnection(call: Call) -> types.CallToolResult:
    if call.ctx.close_sse_stream is not None:  # nothing to close on stdio
        await call.ctx.close_sse_stream()
    await anyio.sleep(LONG_S)  # long enough that whoever carries the stream onwards shows how it does that
    return said("Answered after a while")


@plain.tool("test_missing_capability", "Refuses clients that did not declare sampling")
async def missing_capability(call: Call) -> types.CallToolResult:
    declared = call.ctx.session.client_capabilities
    if declared is None or declared.sampling is None:
        needed: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "this tool needs the sampling capability", needed)
    return said("The client can sample")


@plain.tool("test_trigger_tool_change", "Tells those who listen that the list of tools changed")
async def trigger_tool_change(call: Call) -> types.CallToolResult:
    await changes.publish(ToolsListChanged())
    await call.ctx.session.send_tool_list_changed()
    return said("Announced")


@plain.tool("test_trigger_prompt_change", "Tells those who listen that the list of prompts changed")
async def trigger_prompt_change(call: Call) -> types.CallToolResult:
    await changes.publish(PromptsListChanged())
    await call.ctx.session.send_prompt_list_changed()
    return said("Announced")


REGION = {"type": "string", "description": "Where to run it; also sent as a header", "x-mcp-header": "Region"}


@plain.tool("test_header_parameter", "Repeats a parameter that also travels as a header", {"region": REGION})
async def header_parameter(call: Call) -> types.CallToolResult:
    return said(f"region: {call.arguments.get('region')}")


SCHEMA_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@plain.tool("json_schema_2020_12_tool", "Has a schema with the newer keywords of JSON Schema", schema=SCHEMA_2020_12)
async def json_schema(call: Call) -> types.CallToolResult:
    return said("The schema is what matters here")
