"""Prompts, resources and completion."""

from __future__ import annotations

import json
import re
from typing import Any

import mcp_types as types
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from .asking import Conversation, question
from .content import PNG, picture, text
from .tools import embedded

RESOURCE_NOT_FOUND = -32002  # 2025-11-25 server/resources, "Error Handling"; later revisions say invalid params
TEMPLATE = "test://template/{id}/data"
TEMPLATE_MATCH = re.compile(r"test://template/([^/]+)/data")


def argument(name: str, description: str) -> types.PromptArgument:
    return types.PromptArgument(name=name, description=description, required=True)


ARGUMENTS = [argument("arg1", "First test argument"), argument("arg2", "Second test argument")]
PROMPTS = [
    types.Prompt(name="test_simple_prompt", description="One message"),
    types.Prompt(name="test_prompt_with_arguments", description="A message with two arguments", arguments=ARGUMENTS),
    types.Prompt(
        name="test_prompt_with_embedded_resource",
        description="A message with a resource inside",
        arguments=[argument("resourceUri", "URI of the resource to embed")],
    ),
    types.Prompt(name="test_prompt_with_image", description="A message with a picture"),
    types.Prompt(name="test_input_required_result_prompt", description="A message about what the person answers"),
]
RESOURCES = [
    types.Resource(
        uri="test://static-text", name="static-text", description="A text that stays", mime_type="text/plain"
    ),
    types.Resource(
        uri="test://static-binary", name="static-binary", description="A picture that stays", mime_type="image/png"
    ),
    types.Resource(
        uri="test://watched-resource", name="watched-resource", description="A text to watch", mime_type="text/plain"
    ),
]
TEMPLATES = [
    types.ResourceTemplate(
        uri_template=TEMPLATE, name="template", description="Data by id", mime_type="application/json"
    )
]
TEXTS = {
    "test://static-text": "This is the content of the static text resource.",
    "test://watched-resource": "This is the content of the watched resource.",
}
VALUES = ("paris", "park", "party", "hello", "world")


def message(content: types.ContentBlock) -> types.PromptMessage:
    return types.PromptMessage(role="user", content=content)


async def prompt(params: types.GetPromptRequestParams, client: Conversation) -> types.GetPromptResult:
    """Raises ``Suspended``, ``MCPError``."""
    given = params.arguments or {}
    if params.name == "test_simple_prompt":
        content: list[types.ContentBlock] = [text("This is a simple prompt for testing.")]
    elif params.name == "test_prompt_with_arguments":
        content = [text(f"Prompt with arguments: arg1='{given.get('arg1')}', arg2='{given.get('arg2')}'")]
    elif params.name == "test_prompt_with_embedded_resource":
        resource = embedded(given.get("resourceUri", ""), "text/plain", "Embedded resource content for testing.")
        content = [resource, text("Please process the embedded resource above.")]
    elif params.name == "test_prompt_with_image":
        content = [picture(), text("Please analyze the image above.")]
    elif params.name == "test_input_required_result_prompt":
        answers = await client.ask({"user_context": question("What context should the prompt use?", "context")})
        content = [text(f"Use this context: {json.dumps(answers['user_context'].get('content'))}")]
    else:
        raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")
    return types.GetPromptResult(messages=[message(part) for part in content])


def resource(uri: str, version: str) -> types.ReadResourceResult:
    """Raises ``MCPError``, with the code of the client's revision."""
    contents: types.TextResourceContents | types.BlobResourceContents
    if uri in TEXTS:
        contents = types.TextResourceContents(uri=uri, mime_type="text/plain", text=TEXTS[uri])
    elif uri == "test://static-binary":
        contents = types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
    elif match := TEMPLATE_MATCH.fullmatch(uri):
        data: dict[str, Any] = {"id": match[1], "templateTest": True, "data": f"Data for ID: {match[1]}"}
        contents = types.TextResourceContents(uri=uri, mime_type="application/json", text=json.dumps(data))
    else:
        code = types.INVALID_PARAMS if version in MODERN_PROTOCOL_VERSIONS else RESOURCE_NOT_FOUND
        raise MCPError(code, "Resource not found", {"uri": uri})
    return types.ReadResourceResult(contents=[contents])


def completion(params: types.CompleteRequestParams) -> types.CompleteResult:
    values = [v for v in VALUES if v.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=values, total=len(values), has_more=False))
