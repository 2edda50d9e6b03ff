"""A request for a response, checked: messages, tools of the client, tool servers, approvals, options."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from runner.agent.events import Call, Tool
from runner.agent.toolset import add_message, make_call
from runner.api.chat_request import integer, model_name, parse_messages, parse_options, response_grammar
from runner.errors import RequestInvalid, Unsupported

MAX_TOOLS = 512
MAX_SERVERS = 8
MAX_ITEMS = 10_000
_UNSUPPORTED = ("conversation", "prompt", "context_management", "top_logprobs")
_IGNORED_ITEMS = ("reasoning", "mcp_list_tools")  # they say nothing that the model reads
_IGNORED_INCLUDES = ("reasoning.encrypted_content",)


@dataclass(frozen=True)
class McpServer:
    """One ``{"type": "mcp"}`` of the request."""

    label: str
    url: str = ""
    token: str = field(default="", repr=False)
    allowed: tuple[str, ...] | None = None  # tool names; None: all
    only_reading: bool = False
    approve: str = "always"  # always, never, or "listed"
    never: frozenset[str] = frozenset()  # with "listed": names that need none
    never_reading: bool = False  # with "listed": tools that say they only read need none

    def admits(self, tool: Tool) -> bool:
        return (self.allowed is None or tool.name in self.allowed) and (tool.read_only or not self.only_reading)

    def needs_approval(self, tool: Tool) -> bool:
        if self.approve == "listed":
            return tool.name not in self.never and not (self.never_reading and tool.read_only)
        return self.approve != "never"


@dataclass
class Conversation:
    """Messages so far, and the calls in them that wait for an approval."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    pending: dict[str, Call] = field(default_factory=dict)  # id of the approval request -> call


@dataclass(frozen=True)
class ResponseRequest:
    body: dict[str, Any]
    model: str
    items: list[dict[str, Any]]
    functions: list[Tool]
    servers: list[McpServer]
    options: dict[str, Any]
    tool_choice: str
    stream: bool
    store: bool
    previous: str
    max_calls: int | None


def parse_response(body: dict[str, Any]) -> ResponseRequest:
    """Raises ``RequestInvalid``, ``Unsupported`` or ``SchemaImpossible``."""
    _refuse_unsupported(body)
    functions, servers = _tools(body.get("tools"))
    options = _options(body)
    if options.get("grammar") and (functions or servers):
        raise RequestInvalid("text.format cannot be combined with tools", param="text")
    return ResponseRequest(
        body=body,
        model=model_name(body),
        items=_items(body.get("input")),
        functions=functions,
        servers=servers,
        options=options,
        tool_choice=_tool_choice(body.get("tool_choice"), servers, bool(functions or servers)),
        stream=body.get("stream") is True,
        store=body.get("store") is not False,
        previous=_text(body, "previous_response_id"),
        max_calls=None if body.get("max_tool_calls") is None else integer(body, "max_tool_calls", 0, 0, 10_000),
    )


def _refuse_unsupported(body: dict[str, Any]) -> None:
    for name in _UNSUPPORTED:
        if body.get(name):
            raise Unsupported(f"{name} is not supported", remedy="leave it out", param=name)
    if body.get("background"):
        raise Unsupported("responses in the background are not supported", remedy="use stream", param="background")
    if body.get("truncation") not in (None, "disabled"):
        raise Unsupported("a prompt is never cut silently", remedy="leave truncation out", param="truncation")
    for name in body.get("include") or []:
        if name not in _IGNORED_INCLUDES:
            raise Unsupported(f"include {name!r} is not supported", remedy="leave it out", param="include")


def _options(body: dict[str, Any]) -> dict[str, Any]:
    options = parse_options({k: v for k, v in body.items() if k not in ("max_tokens", "response_format", "grammar")})
    if body.get("max_output_tokens") is not None:
        options["max_tokens"] = integer(body, "max_output_tokens", 1, 1, 1 << 24)
    text = body.get("text")
    form = text.get("format") if isinstance(text, dict) else None
    if isinstance(form, dict) and form.get("type") == "json_schema":
        form = {"type": "json_schema", "json_schema": {"schema": form.get("schema")}}  # chat completions nest it
    if grammar := response_grammar(form):
        options["grammar"] = grammar
    return options


# -- tools


def _tools(value: Any) -> tuple[list[Tool], list[McpServer]]:
    if value is None:
        return [], []
    if not isinstance(value, list) or len(value) > MAX_TOOLS or not all(isinstance(t, dict) for t in value):
        raise RequestInvalid(f"tools should be a list of at most {MAX_TOOLS}", param="tools")
    functions = [_function(t) for t in value if t.get("type") == "function"]
    servers = [_server(t) for t in value if t.get("type") == "mcp"]
    if len(functions) + len(servers) < len(value):
        kinds = sorted({str(t.get("type")) for t in value} - {"function", "mcp"})
        raise Unsupported(
            f"tools of type {', '.join(kinds)} are not supported", remedy="use function or mcp", param="tools"
        )
    if len({t.name for t in functions}) < len(functions) or len({s.label for s in servers}) < len(servers):
        raise RequestInvalid("two tools have the same name, or two servers the same label", param="tools")
    if len(servers) > MAX_SERVERS:
        raise RequestInvalid(f"at most {MAX_SERVERS} tool servers", param="tools")
    return functions, servers


def _function(value: dict[str, Any]) -> Tool:
    name, parameters = value.get("name"), value.get("parameters")
    if not isinstance(name, str) or not 0 < len(name) <= 256:
        raise RequestInvalid("a function has no name", param="tools")
    if parameters is not None and not isinstance(parameters, dict):
        raise RequestInvalid(f"the parameters of {name} should be a JSON schema", param="tools")
    schema = parameters or {"type": "object", "properties": {}}
    return Tool(name, str(value.get("description") or ""), schema, external=True)


def _server(value: dict[str, Any]) -> McpServer:
    label = value.get("server_label")
    if not isinstance(label, str) or not 0 < len(label) <= 64:
        raise RequestInvalid("a tool server has no server_label", param="tools")
    for name in ("connector_id", "tunnel_id"):
        if value.get(name):
            raise Unsupported(f"{name} is not supported", remedy="use server_label or server_url", param="tools")
    allowed, only_reading = _allowed(value.get("allowed_tools"))
    approve, never, never_reading = _approval(value.get("require_approval"))
    return McpServer(
        label, _text(value, "server_url"), _token(value), allowed, only_reading, approve, never, never_reading
    )


def _token(value: dict[str, Any]) -> str:
    headers = value.get("headers") or {}
    if not isinstance(headers, dict) or any(k.lower() != "authorization" for k in headers):
        raise Unsupported("only an Authorization header can be sent on", remedy="use authorization", param="tools")
    token = _text(value, "authorization") or str(next(iter(headers.values()), "")).removeprefix("Bearer ")
    if not (token.isascii() and token.isprintable()):
        raise RequestInvalid("authorization is no token", param="tools")
    return token


def _allowed(value: Any) -> tuple[tuple[str, ...] | None, bool]:
    if value is None:
        return None, False
    names = value.get("tool_names") if isinstance(value, dict) else value
    if names is not None and not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
        raise RequestInvalid("allowed_tools should be a list of names", param="tools")
    return None if names is None else tuple(names), isinstance(value, dict) and value.get("read_only") is True


def _approval(value: Any) -> tuple[str, frozenset[str], bool]:
    """OpenAI asks for every call where nothing is said; so do we."""
    if value is None or value in ("always", "never"):
        return str(value or "always"), frozenset(), False
    never = value.get("never") if isinstance(value, dict) else None
    if not isinstance(never, dict):
        raise RequestInvalid("require_approval should be always, never, or name tools under never", param="tools")
    names, reading = _allowed(never)
    always = value.get("always")
    kept = frozenset(names or ()) - frozenset((_allowed(always)[0] or ()) if isinstance(always, dict) else ())
    return "listed", kept, reading


def _tool_choice(value: Any, servers: list[McpServer], any_tools: bool) -> str:
    if value is None:
        return "auto"
    if isinstance(value, dict):
        kind, name = value.get("type"), value.get("name")
        if kind == "mcp" and not name and len(servers) == 1 and any_tools:
            return "required"
        if kind in ("function", "mcp") and isinstance(name, str) and name:
            return f"={name}"
        raise Unsupported(f"tool_choice {kind!r} is not supported here", remedy="name a tool", param="tool_choice")
    if value not in ("auto", "none", "required"):
        raise RequestInvalid("tool_choice should be auto, none, required or a tool", param="tool_choice")
    if value == "required" and not any_tools:
        raise RequestInvalid("tool_choice is required but there are no tools", param="tool_choice")
    return str(value)


# -- input


def _items(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    if not isinstance(value, list) or len(value) > MAX_ITEMS or not all(isinstance(i, dict) for i in value):
        raise RequestInvalid(f"input should be a text or a list of at most {MAX_ITEMS} items", param="input")
    return [{"type": "message", **item} for item in value]


def extend(talk: Conversation, items: list[dict[str, Any]]) -> list[Call]:
    """Add ``items`` to ``talk``; the calls among its pending ones that they approve.  Raises ``RequestInvalid``."""
    approved: list[Call] = []
    for item in items:
        kind = item["type"]
        if kind == "message":
            talk.messages += parse_messages([item])
        elif kind in ("function_call", "mcp_call", "mcp_approval_request"):
            _add_call(talk, item)
        elif kind == "function_call_output":
            _add_output(talk, _needed(item, "call_id"), item.get("output"))
        elif kind == "mcp_approval_response":
            approved += _decide(talk, item)
        elif kind not in _IGNORED_ITEMS:
            raise Unsupported(f"an input item of type {kind!r} is not supported", remedy="leave it out", param="input")
    return approved


def _add_call(talk: Conversation, item: dict[str, Any]) -> None:
    call_id = _needed(item, "call_id" if item["type"] == "function_call" else "id")
    call = make_call(call_id, _needed(item, "name"), _text(item, "arguments"))
    last = talk.messages[-1] if talk.messages else {}
    entry = {"name": call.name, "arguments": call.arguments or {}}
    body = {"id": call_id, "type": "function", "function": entry}
    if last.get("role") == "assistant":  # calls of one answer stand in one message
        last["tool_calls"] = [*last.get("tool_calls", []), body]
    else:
        talk.messages.append({"role": "assistant", "content": "", "tool_calls": [body]})
    if item["type"] == "mcp_call":
        error = item.get("error")
        _add_output(talk, call_id, f"Error: {json.dumps(error)}" if error else item.get("output"))
    elif item["type"] == "mcp_approval_request":
        talk.pending[call_id] = call


def _add_output(talk: Conversation, call_id: str, output: Any) -> None:
    if not any(c["id"] == call_id for m in talk.messages for c in m.get("tool_calls", [])):
        raise RequestInvalid(f"there is no call {call_id}", remedy="send the call before its output", param="input")
    if isinstance(output, list):
        output = "\n".join(str(part.get("text", "")) for part in output if isinstance(part, dict))
    add_message(talk.messages, {"role": "tool", "tool_call_id": call_id, "content": str(output or "")})


def _decide(talk: Conversation, item: dict[str, Any]) -> list[Call]:
    call = talk.pending.pop(_needed(item, "approval_request_id"), None)
    if call is None:
        raise RequestInvalid("no call waits for this approval", remedy="send the approval request too", param="input")
    if item.get("approve") is True:
        return [call]
    why = _text(item, "reason")
    _add_output(talk, call.id, f"Not done: the person refused it{': ' + why if why else ''}")
    return []


def _needed(item: dict[str, Any], name: str) -> str:
    if not (value := _text(item, name)):
        raise RequestInvalid(f"an item of type {item['type']} has no {name}", param="input")
    return value


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise RequestInvalid(f"{name} should be a text", param=name)
    return value or ""
