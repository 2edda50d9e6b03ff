"""Anthropic's Messages API (API reference, "Messages" and "Streaming messages"): translated, not imitated in part."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from harbourmaster.core.errors import HarbourError
from runner.api.chat_request import parse_chat
from runner.api.errors import anthropic_body
from runner.api.http import Events, Phrase, json_body, json_response, until_disconnect
from runner.chat.job import ChatEvent, ChatJob, Done, Text, ToolCall
from runner.chat.pictures import picture_part
from runner.chat.toolcalls import chat, prompt_frame
from runner.errors import RequestInvalid, Unsupported
from runner.service import Runner

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class Anthropic:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def messages(self, request: Request) -> Response:
        body = await json_body(request)
        if type(body.get("max_tokens")) is not int:
            raise RequestInvalid("max_tokens is required", param="max_tokens")
        asked = parse_chat(as_openai(body))
        plan = self._runner.plan(asked.model)
        if body.get("stream") is True:
            return Events(self._stream(asked.job, asked.model, plan), _sse_error, "text/event-stream")
        return json_response(await until_disconnect(request, self._answer(asked.job, asked.model, plan)))

    async def count_tokens(self, request: Request) -> Response:
        body = await json_body(request)
        asked = parse_chat(as_openai(body))

        async def work() -> int:
            async with self._runner.scheduler.use(self._runner.plan(asked.model)) as engine:
                return int(await engine.ask({"op": "count", **prompt_frame(engine, asked.job)}))

        return json_response({"input_tokens": await until_disconnect(request, work())})

    async def _answer(self, job: ChatJob, model: str, plan: Any) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        whole = replace(job, whole=True)
        async with self._runner.scheduler.use(plan) as engine, aclosing(chat(engine, whole)) as events:
            async for event in events:
                if isinstance(event, Text):
                    if content and content[-1]["type"] == "text":
                        content[-1]["text"] += event.text
                    else:
                        content.append({"type": "text", "text": event.text})
                elif isinstance(event, ToolCall):
                    content.append({"type": "tool_use", "id": event.id, "name": event.name, "input": event.arguments})
                else:
                    done = event
        usage = {"input_tokens": done.usage.prompt_tokens, "output_tokens": done.usage.completion_tokens}
        return {**_message(model), "content": content, **_stop(done), "usage": usage}

    async def _stream(self, job: ChatJob, model: str, plan: Any) -> AsyncGenerator[bytes, None]:
        writer = _Blocks()
        async with self._runner.scheduler.use(plan) as engine, aclosing(chat(engine, job)) as events:
            started = False
            async for event in events:
                if not started:
                    started = True
                    usage = {"input_tokens": 0, "output_tokens": 0}
                    start = {**_message(model), "content": [], "stop_reason": None, "stop_sequence": None}
                    yield _sse("message_start", {"message": {**start, "usage": usage}})
                for piece in writer.write(event):
                    yield piece
        yield _sse("message_stop", {})


class _Blocks:
    """Content blocks: each is started, filled and stopped before the next."""

    def __init__(self) -> None:
        self._index = -1
        self._open = ""
        self._say: Callable[[str], bytes]

    def write(self, event: ChatEvent) -> list[bytes]:
        if isinstance(event, Text):
            pieces = [] if self._open == "text" else self._start("text", {"type": "text", "text": ""})
            if pieces:
                self._say = Phrase(lambda text: self._delta({"type": "text_delta", "text": text}))
            return [*pieces, self._say(event.text)]
        if isinstance(event, ToolCall):
            block = {"type": "tool_use", "id": event.id, "name": event.name, "input": {}}
            partial = {"type": "input_json_delta", "partial_json": event.arguments_text}
            return [*self._start("tool_use", block), self._delta(partial)]
        usage = {"input_tokens": event.usage.prompt_tokens, "output_tokens": event.usage.completion_tokens}
        return [*self._stop(), _sse("message_delta", {"delta": _stop(event), "usage": usage})]

    def _start(self, kind: str, block: dict[str, Any]) -> list[bytes]:
        pieces = self._stop()
        self._index, self._open = self._index + 1, kind
        return [*pieces, _sse("content_block_start", {"index": self._index, "content_block": block})]

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _sse("content_block_delta", {"index": self._index, "delta": delta})

    def _stop(self) -> list[bytes]:
        if not self._open:
            return []
        self._open = ""
        return [_sse("content_block_stop", {"index": self._index})]


def as_openai(body: dict[str, Any]) -> dict[str, Any]:
    """The same request in OpenAI's words; what has none there is dropped only where it cannot change the answer."""
    system = body.get("system")
    opening = [{"role": "system", "content": _texts(system)}] if system else []
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestInvalid("messages should be a list of messages", param="messages")
    request: dict[str, Any] = {
        "model": body.get("model"),
        "messages": [*opening, *(m for message in messages for m in _message_in(message))],
        "stop": body.get("stop_sequences"),
    }
    for name in ("max_tokens", "temperature", "top_p", "top_k"):
        request[name] = body.get(name)
    if body.get("tools"):
        request["tools"] = [_tool(t) for t in body["tools"]]
        request["tool_choice"], request["parallel_tool_calls"] = _tool_choice(body.get("tool_choice"))
    return request


def _message_in(message: Any) -> list[dict[str, Any]]:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("user", "assistant"):
        raise RequestInvalid("a message's role should be user or assistant", param="messages")
    content = message.get("content")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if not isinstance(content, list) or not all(isinstance(b, dict) for b in content):
        raise RequestInvalid("a message's content should be a text or a list of blocks", param="messages")
    results = [
        {"role": "tool", "tool_call_id": b.get("tool_use_id"), "content": _content(b.get("content") or "")}
        for b in content
        if b.get("type") == "tool_result"
    ]
    calls = [_call(b) for b in content if b.get("type") == "tool_use"]
    rest = [b for b in content if b.get("type") not in ("tool_result", "tool_use", "thinking", "redacted_thinking")]
    own: list[dict[str, Any]] = []
    if rest or calls:
        own = [{"role": role, "content": _content(rest), **({"tool_calls": calls} if calls else {})}]
    return [*results, *own]


def _call(block: dict[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(block.get("input") or {})
    return {"id": block.get("id"), "type": "function", "function": {"name": block.get("name"), "arguments": arguments}}


def _content(value: Any) -> str | list[dict[str, Any]]:
    """Blocks as OpenAI's parts where a picture is among them, else as one text."""
    blocks = value if isinstance(value, list) else []
    if not any(isinstance(b, dict) and b.get("type") == "image" for b in blocks):
        return _texts(value)
    return [_image(b) if b.get("type") == "image" else {"type": "text", "text": _texts([b])} for b in blocks]


def _image(block: dict[str, Any]) -> dict[str, Any]:
    source = block.get("source")
    if not isinstance(source, dict) or source.get("type") != "base64":
        raise Unsupported(
            "this runner fetches no pictures: a source of type base64 is read", remedy="send the file", param="messages"
        )
    return picture_part(source.get("data"), str(source.get("media_type")))


def _texts(value: Any) -> str:
    if isinstance(value, str):
        return value
    blocks = value if isinstance(value, list) else []
    for block in blocks:
        if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
            raise RequestInvalid("only blocks of text and pictures are read", param="messages")
    return "\n".join(b["text"] for b in blocks)


def _tool(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("input_schema", {}), dict):
        raise RequestInvalid("a tool should have a name and an input_schema", param="tools")
    function = {
        "name": value.get("name"),
        "description": value.get("description"),
        "parameters": value.get("input_schema"),
    }
    return {"type": "function", "function": function}


def _tool_choice(value: Any) -> tuple[Any, bool]:
    choice = value if isinstance(value, dict) else {"type": "auto"}
    parallel = choice.get("disable_parallel_tool_use") is False
    if choice.get("type") == "tool":
        return {"type": "function", "function": {"name": choice.get("name")}}, parallel
    return _CHOICES.get(str(choice.get("type")), "invalid"), parallel


def _message(model: str) -> dict[str, Any]:
    return {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant", "model": model}


def _stop(done: Done) -> dict[str, Any]:
    reasons = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
    reason = "stop_sequence" if done.stop else reasons.get(done.reason, "end_turn")
    return {"stop_reason": reason, "stop_sequence": done.stop or None}


def _sse(kind: str, body: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: ".encode() + orjson.dumps({"type": kind, **body}) + b"\n\n"


def _sse_error(error: HarbourError) -> bytes:
    return b"event: error\ndata: " + orjson.dumps(anthropic_body(error)) + b"\n\n"
