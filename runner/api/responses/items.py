"""A run as output items and as the typed events of a stream (API reference, "Streaming events"): one source for both."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from runner.agent.events import (
    AgentEvent,
    Call,
    CallAnswered,
    CallAsked,
    CallDeferred,
    CallRefused,
    CallStarted,
    MessageAdded,
    Report,
    Said,
    Tool,
)

INVALID_PARAMS = -32602  # JSON-RPC 2.0: the call was not made


@dataclass
class Output:
    """``labels``: tool name -> the label of its server; a tool without one is the client's own."""

    response: dict[str, Any]
    labels: Mapping[str, str]
    approvals: Mapping[str, str] = field(default_factory=dict)  # id of an approved call -> its approval request
    items: list[dict[str, Any]] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)  # not taken yet
    pending: dict[str, Call] = field(default_factory=dict)
    _text: int = -1  # index of the message that is being written
    _calls: dict[str, int] = field(default_factory=dict)  # id of a call -> index of its item
    _number: int = 0

    def take(self) -> list[bytes]:
        frames, self.frames = self.frames, []
        return frames

    def begin(self) -> None:
        self._frame("response.created", response=self._snapshot("in_progress"))
        self._frame("response.in_progress", response=self._snapshot("in_progress"))

    def listed(self, label: str, tools: list[Tool]) -> None:
        item: dict[str, Any] = {
            "id": _id("mcpl"),
            "type": "mcp_list_tools",
            "server_label": label,
            "tools": [],
            "error": None,
        }
        index = self._add(item)
        self._event("response.mcp_list_tools.in_progress", index)
        item["tools"] = [_listed(t) for t in tools]
        self._event("response.mcp_list_tools.completed", index)
        self._done(index)

    def tell(self, event: AgentEvent) -> None:
        if isinstance(event, Said):
            self._say(event.text)
        elif isinstance(event, CallDeferred):
            self._defer(event)
        elif isinstance(event, CallRefused):
            self._finish(event.call, error=_protocol_error(event.why))
        elif isinstance(event, CallStarted):
            self._start(event.call)
        elif isinstance(event, CallAnswered):
            result = event.result
            error = {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": result.text}]}
            self._finish(event.call, output=result.text, error=error if result.is_error else None)
        elif isinstance(event, CallAsked | MessageAdded):
            self._close_text()

    def end(self, status: str, report: Report) -> dict[str, Any]:
        """The finished response; also the stream's last event."""
        self._close_text()
        self.response |= {"usage": _usage(report), "output": self.items}
        body = self._snapshot(status)
        self._frame(f"response.{status}", response=body)
        return body

    # -- texts

    def _say(self, text: str) -> None:
        if self._text < 0:
            item: dict[str, Any] = {
                "id": _id("msg"),
                "type": "message",
                "role": "assistant",
                "status": "in_progress",
                "content": [],
            }
            self._text = self._add(item)
            self._event("response.content_part.added", self._text, content_index=0, part=_part(""))
            item["content"] = [_part("")]
        self.items[self._text]["content"][0]["text"] += text
        self._event("response.output_text.delta", self._text, content_index=0, delta=text, logprobs=[])

    def _close_text(self) -> None:
        if self._text < 0:
            return
        index, self._text = self._text, -1
        item = self.items[index]
        part = item["content"][0]
        item["status"] = "completed"
        self._event("response.output_text.done", index, content_index=0, text=part["text"], logprobs=[])
        self._event("response.content_part.done", index, content_index=0, part=part)
        self._done(index)

    # -- calls

    def _start(self, call: Call) -> int:
        self._close_text()
        item = {
            "id": _id("mcp"), "type": "mcp_call", "status": "in_progress", "server_label": self.labels.get(call.name, ""),
            "name": call.name, "arguments": "", "output": None, "error": None,
            "approval_request_id": self.approvals.get(call.id),
        }  # fmt: skip
        index = self._calls[call.id] = self._add(item)
        self._event("response.mcp_call.in_progress", index)
        item["arguments"] = call.arguments_text
        self._event("response.mcp_call_arguments.delta", index, delta=call.arguments_text)
        self._event("response.mcp_call_arguments.done", index, arguments=call.arguments_text)
        return index

    def _finish(self, call: Call, *, output: str | None = None, error: Any = None) -> None:
        index = self._calls.pop(call.id, -1)
        if index < 0:
            index = self._start(call)
            self._calls.pop(call.id)
        item = self.items[index]
        item |= {"status": "failed" if error else "completed", "output": None if error else output, "error": error}
        self._event("response.mcp_call.failed" if error else "response.mcp_call.completed", index)
        self._done(index)

    def _defer(self, event: CallDeferred) -> None:
        call = event.call
        if not event.external:
            self.pending[call.id] = call
            self._done(self._add(_approval_request(call, self.labels.get(call.name, ""))))
            return
        item = {"id": _id("fc"), "type": "function_call", "status": "in_progress", "call_id": call.id, "name": call.name,
                "arguments": ""}  # fmt: skip
        index = self._add(item)
        text = json.dumps(call.arguments or {}, ensure_ascii=False)
        self._event("response.function_call_arguments.delta", index, delta=text)
        item |= {"arguments": text, "status": "completed"}
        self._event("response.function_call_arguments.done", index, arguments=text, name=call.name)
        self._done(index)

    # -- frames

    def _add(self, item: dict[str, Any]) -> int:
        self.items.append(item)
        index = len(self.items) - 1
        self._frame("response.output_item.added", output_index=index, item=item)
        return index

    def _done(self, index: int) -> None:
        self._frame("response.output_item.done", output_index=index, item=self.items[index])

    def _event(self, kind: str, index: int, **more: Any) -> None:
        self._frame(kind, output_index=index, item_id=self.items[index]["id"], **more)

    def _frame(self, kind: str, **more: Any) -> None:
        body = orjson.dumps({"type": kind, "sequence_number": self._number, **more})
        self._number += 1
        self.frames.append(b"event: " + kind.encode() + b"\ndata: " + body + b"\n\n")

    def _snapshot(self, status: str) -> dict[str, Any]:
        return {**self.response, "status": status, "output": list(self.items) if status != "in_progress" else []}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _approval_request(call: Call, label: str) -> dict[str, Any]:
    return {
        "id": call.id, "type": "mcp_approval_request", "server_label": label, "name": call.name,
        "arguments": call.arguments_text,
    }  # fmt: skip


def _listed(tool: Tool) -> dict[str, Any]:
    hints = {"read_only": tool.read_only, "title": tool.title or None}
    return {"name": tool.name, "description": tool.description, "input_schema": tool.parameters, "annotations": hints}


def _protocol_error(why: str) -> dict[str, Any]:
    return {"type": "mcp_protocol_error", "code": INVALID_PARAMS, "message": why}


def _usage(report: Report) -> dict[str, Any]:
    return {
        "input_tokens": report.read_tokens,
        "input_tokens_details": {"cached_tokens": report.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": report.tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": report.read_tokens + report.tokens,
    }


def _id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"
