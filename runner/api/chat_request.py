"""OpenAI's chat and completion requests (API reference, "Create chat completion"), checked and put in no dialect."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from runner.chat.job import ChatJob
from runner.chat.pictures import check_count, read_part
from runner.errors import RequestInvalid, Unsupported
from runner.grammar.schema import grammar_of_schema, json_object_grammar

MAX_MESSAGES = 10_000
MAX_TOOLS = 512
MAX_CHOICES = 16
_ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
_PASSED = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
    "logit_bias",
    "stop",
    "grammar",
    "ignore_eos",
]


@dataclass(frozen=True)
class ChatRequest:
    model: str
    job: ChatJob
    choices: int
    stream: bool
    include_usage: bool
    schema: dict[str, Any] | None = None


def parse_chat(body: dict[str, Any]) -> ChatRequest:
    """Raises ``RequestInvalid``, ``Unsupported`` or ``SchemaImpossible``."""
    options = parse_options(body)
    if body.get("logprobs"):
        options["logprobs"] = integer(body, "top_logprobs", 0, 0, 20)
    tools = _tools(body.get("tools"))
    job = ChatJob(
        messages=parse_messages(body.get("messages")),
        options=options,
        tools=tools,
        tool_choice=_tool_choice(body.get("tool_choice"), tools),
        parallel=body.get("parallel_tool_calls") is True,  # small models do better with one call at a time
        template_args=_object(body, "chat_template_kwargs"),
    )
    if job.tools and job.tool_choice != "none" and options.get("grammar"):
        raise RequestInvalid("a grammar or a response format cannot be combined with tools", param="response_format")
    return ChatRequest(
        model=model_name(body),
        job=job,
        choices=integer(body, "n", 1, 1, MAX_CHOICES),
        stream=body.get("stream") is True,
        include_usage=bool(_object(body, "stream_options").get("include_usage")),
    )


def model_name(body: dict[str, Any]) -> str:
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise RequestInvalid("model should name a model", remedy="see GET /v1/models", param="model")
    return name


def adapters(body: dict[str, Any]) -> dict[str, Any]:
    """What a request changes in how its model is loaded: the scales of its LoRA adapters, as llama.cpp's server takes them."""
    return {"lora": body["lora"]} if body.get("lora") is not None else {}


def parse_options(body: dict[str, Any]) -> dict[str, Any]:
    options = {name: body[name] for name in _PASSED if body.get(name) is not None}
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if limit is not None and limit != -1:
        options["max_tokens"] = limit
    if "grammar" not in options and (grammar := response_grammar(body.get("response_format"))):
        options["grammar"] = grammar
    return options


def response_grammar(form: Any) -> str:
    if form is None:
        return ""
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "text":
        return ""
    if kind == "json_object":
        schema = form.get("schema")  # llama.cpp's extension
        return grammar_of_schema(schema) if isinstance(schema, dict) else json_object_grammar()
    if kind == "json_schema":
        holder = form.get("json_schema")
        schema = holder.get("schema") if isinstance(holder, dict) else None
        if isinstance(schema, dict | bool):
            return grammar_of_schema(schema)
        raise RequestInvalid("response_format.json_schema.schema is missing", param="response_format")
    raise RequestInvalid(
        f"no response format {kind!r}", remedy="use text, json_object or json_schema", param="response_format"
    )


# -- messages


def parse_messages(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_MESSAGES:
        raise RequestInvalid(f"messages should be a list of 1 to {MAX_MESSAGES} messages", param="messages")
    messages = [_message(m, i) for i, m in enumerate(value)]
    check_count(messages)
    return messages


def _message(value: Any, index: int) -> dict[str, Any]:
    where = f"messages[{index}]"
    if not isinstance(value, dict) or value.get("role") not in _ROLES:
        raise RequestInvalid(f"{where}.role should be one of {', '.join(sorted(_ROLES))}", param="messages")
    role = "system" if value["role"] == "developer" else value["role"]
    message: dict[str, Any] = {"role": role, "content": _content(value.get("content"), where)}
    for name in ("name", "tool_call_id", "reasoning_content"):
        if isinstance(value.get(name), str):
            message[name] = value[name]
    if role == "assistant" and value.get("tool_calls"):
        message["tool_calls"] = [_past_call(c, where) for c in _list(value, "tool_calls", where)]
    return message


def _content(value: Any, where: str) -> str | list[dict[str, Any]]:
    """A text; with pictures, texts and pictures in order."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RequestInvalid(f"{where}.content should be a text or a list of parts", param="messages")
    parts = [_part(part, where) for part in value]
    if any(part["type"] == "image_url" for part in parts):
        return parts
    return "\n".join(part["text"] for part in parts)


def _part(part: Any, where: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("image_url", "input_image"):
        return read_part(part)
    if kind in ("input_audio", "input_file", "file"):
        raise Unsupported(f"{where} has a part of type {kind}: texts and pictures are read", param="messages")
    text = part.get("text") if isinstance(part, dict) else None
    if kind not in ("text", "input_text", "output_text", "refusal") or not isinstance(text, str):
        raise RequestInvalid(f"{where}.content has a part that is no text", param="messages")
    return {"type": "text", "text": text}


def _past_call(value: Any, where: str) -> dict[str, Any]:
    """Templates want the arguments as an object; OpenAI's clients send them as a text."""
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RequestInvalid(f"{where}.tool_calls has a call without a function", param="messages")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            raise RequestInvalid(f"{where}.tool_calls has arguments that are not JSON", param="messages") from None
    return {
        "id": str(value.get("id") or ""),
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


# -- tools


def _tools(value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise RequestInvalid(f"tools should be a list of at most {MAX_TOOLS}", param="tools")
    tools = [_tool(t, i) for i, t in enumerate(value)]
    if len({t["name"] for t in tools}) != len(tools):
        raise RequestInvalid("two tools have the same name", param="tools")
    return tools


def _tool(value: Any, index: int) -> dict[str, Any]:
    function = (
        value.get("function") if isinstance(value, dict) and value.get("type", "function") == "function" else None
    )
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not 0 < len(name) <= 256:
        raise RequestInvalid(f"tools[{index}] is no function with a name", param="tools")
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise RequestInvalid(f"tools[{index}].function.parameters should be a JSON schema", param="tools")
    return {
        "name": name,
        "description": str(function.get("description") or ""),
        "parameters": parameters or {"type": "object", "properties": {}},
    }


def _tool_choice(value: Any, tools: list[dict[str, Any]]) -> str:
    if value is None:
        return "auto" if tools else "none"
    if isinstance(value, dict):
        function = value.get("function")
        name = function.get("name") if isinstance(function, dict) else value.get("name")
        if name not in {t["name"] for t in tools}:
            raise RequestInvalid(f"tool_choice names {name!r}, which is not among the tools", param="tool_choice")
        return f"={name}"
    if value not in ("auto", "none", "required"):
        raise RequestInvalid("tool_choice should be auto, none, required or a function", param="tool_choice")
    if value == "required" and not tools:
        raise RequestInvalid("tool_choice is required but there are no tools", param="tool_choice")
    return str(value)


# -- helpers


def integer(body: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not int or not low <= value <= high:
        raise RequestInvalid(f"{name} should be a whole number from {low} to {high}", param=name)
    return value


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def _list(body: dict[str, Any], name: str, where: str) -> list[Any]:
    value = body[name]
    if not isinstance(value, list):
        raise RequestInvalid(f"{where}.{name} should be a list", param="messages")
    return value
