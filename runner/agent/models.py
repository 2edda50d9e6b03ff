"""Models that a loop can ask: an engine of this process, or any server that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import httpx2

from harbourmaster.core.errors import HarbourError
from runner.agent.events import Call, Tool
from runner.agent.toolset import make_call
from runner.api.chat_request import parse_messages
from runner.chat.job import ChatJob, Done, Text, ToolCall, Usage
from runner.chat.toolcalls import chat
from runner.client import proxied
from runner.errors import EngineFailed, PromptTooLong, RequestInvalid, RunnerDown, ToolCallInvalid

if TYPE_CHECKING:
    from runner.scheduler.scheduler import Plan
    from runner.service import Runner

TIMEOUT = httpx2.Timeout(600.0, connect=10.0)  # a load and a long prompt come before the first byte
MAX_LINE = 8 << 20  # bytes of one event
MAX_CALLS = 64  # of one answer

ModelEvent = Text | Call | Done


@dataclass(frozen=True)
class Question:
    messages: list[dict[str, Any]]
    tools: Sequence[Tool] = ()
    options: dict[str, Any] = field(default_factory=dict)
    tool_choice: str = "auto"  # auto, none, required, or "=NAME"
    parallel: bool = True


class ChatModel(Protocol):
    def answer(self, question: Question) -> AsyncGenerator[ModelEvent, None]:
        """Texts, whole calls, and one ``Done``; raises ``ToolCallInvalid`` or another ``HarbourError``."""
        ...


@dataclass(frozen=True)
class EngineModel:
    """A model of this runner; held only while it writes, so that others use it while tools work."""

    runner: Runner
    plan: Plan
    client: str = ""

    async def answer(self, question: Question) -> AsyncGenerator[ModelEvent, None]:
        job = ChatJob(
            parse_messages(question.messages),
            question.options,
            [t.for_model() for t in question.tools],
            question.tool_choice,
            question.parallel,
        )
        async with (
            self.runner.scheduler.use(self.plan, client=self.client) as engine,
            aclosing(chat(engine, job)) as events,
        ):
            async for event in events:
                yield make_call(event.id, event.name, event.arguments_text) if isinstance(event, ToolCall) else event


@dataclass(frozen=True)
class OpenAIModel:
    """
    >>> model = OpenAIModel("http://127.0.0.1:12434/v1", "ai/smollm2")
    """

    url: str
    model: str
    key: str = ""
    socket: str = ""  # a Unix socket that the server listens on, in place of the address's host

    def client(self) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        carrier = httpx2.AsyncHTTPTransport(uds=self.socket) if self.socket else None
        trusted = proxied(self.url) and not self.socket
        return httpx2.AsyncClient(timeout=TIMEOUT, headers=headers, transport=carrier, trust_env=trusted)

    async def answer(self, question: Question) -> AsyncGenerator[ModelEvent, None]:
        collector = _Collector()
        try:
            async with (
                self.client() as client,
                client.stream("POST", f"{base_url(self.url)}/chat/completions", json=self._body(question)) as response,
            ):
                if response.status_code >= 400:
                    raise _error(await response.aread(), response.status_code)
                async for line in _lines(response):
                    for event in _checked(collector.read, line):
                        yield event
        except httpx2.HTTPError as e:
            raise RunnerDown(
                f"no model answers at {self.url}: {e}", remedy="start one: hm model serve, or give --url"
            ) from e
        for last in collector.end():
            yield last

    def _body(self, question: Question) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": question.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            **question.options,
        }
        if question.tools:
            body["tools"] = [{"type": "function", "function": t.for_model()} for t in question.tools]
            body["tool_choice"] = _choice(question.tool_choice)
            body["parallel_tool_calls"] = question.parallel
        return body


def base_url(url: str) -> str:
    """As OpenAI's clients take it; an address without a path means its ``/v1``."""
    return url.rstrip("/") if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/v1"


def _choice(choice: str) -> Any:
    return {"type": "function", "function": {"name": choice[1:]}} if choice.startswith("=") else choice


async def _lines(response: httpx2.Response) -> AsyncGenerator[str, None]:
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE:
            raise EngineFailed(
                f"the model's server sent an event of over {MAX_LINE} bytes", remedy="use another server"
            )
        for line in lines:
            yield line.decode(errors="replace")


def _checked(read: Callable[[str], list[Text]], line: str) -> list[Text]:
    """What another server sends may have any shape."""
    try:
        return read(line)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as e:
        raise EngineFailed(
            f"the model's server sent an event that is none of OpenAI's ({type(e).__name__})",
            remedy="use another server",
        ) from e


class _Collector:
    """The pieces of a streamed answer (OpenAI API reference, "chat completion chunk"); calls come whole at its end."""

    def __init__(self) -> None:
        self._calls: dict[int, list[str]] = {}  # index -> id, name, arguments
        self._reason, self._usage = "", Usage()

    def read(self, line: str) -> list[Text]:
        if not line.startswith("data:") or line[5:].strip() in ("", "[DONE]"):
            return []
        body = json.loads(line[5:])
        if "error" in body:
            raise _error(line[5:].encode(), 502)
        if isinstance(usage := body.get("usage"), dict):
            details = usage.get("prompt_tokens_details") or {}
            self._usage = Usage(
                int(usage.get("prompt_tokens") or 0),
                int(usage.get("completion_tokens") or 0),
                int(details.get("cached_tokens") or 0),
            )
        choice: dict[str, Any] = next(iter(body.get("choices") or []), {})
        self._reason = choice.get("finish_reason") or self._reason
        likelihoods = (choice.get("logprobs") or {}).get("content") or ()
        return self._delta(choice.get("delta") or {}, tuple(likelihoods))

    def _delta(self, delta: dict[str, Any], likelihoods: tuple[dict[str, Any], ...]) -> list[Text]:
        for piece in delta.get("tool_calls") or []:
            call = self._calls.setdefault(int(piece.get("index") or 0), ["", "", ""])
            if len(self._calls) > MAX_CALLS:
                raise ToolCallInvalid(f"the model asks for more than {MAX_CALLS} calls at once", remedy="ask again")
            function = piece.get("function") or {}
            call[0] = piece.get("id") or call[0]
            call[1] = function.get("name") or call[1]
            call[2] += function.get("arguments") or ""
        text = delta.get("content")
        return [Text(text, likelihoods)] if isinstance(text, str) and text else []

    def end(self) -> list[ModelEvent]:
        if not self._reason:
            raise EngineFailed("the model's server ended the stream in mid-answer")
        calls = [self._calls[i] for i in sorted(self._calls)]
        whole = [make_call(c[0] or f"call_{secrets.token_hex(12)}", c[1], c[2]) for c in calls]
        if self._reason == "length":
            whole = []  # half a call is none
        return [*whole, Done(self._reason, self._usage)]


_EXCEEDED = "exceed_context_size_error"  # llama-server's (tools/server/server-common.cpp)


def _error(body: bytes, status: int) -> HarbourError:
    try:
        error = json.loads(body)["error"]
        message, code = (str(error.get("message")), error.get("code")) if isinstance(error, dict) else (str(error), "")
        code = "context_length_exceeded" if isinstance(error, dict) and error.get("type") == _EXCEEDED else code
    except (ValueError, KeyError, TypeError):
        message, code = body.decode(errors="replace").strip()[:500] or f"HTTP status {status}", ""
    if code == ToolCallInvalid.code:
        return ToolCallInvalid(message)
    if code == "context_length_exceeded":  # OpenAI's code, which our runner uses too
        return PromptTooLong(message)
    if status in (400, 422):
        return RequestInvalid(message)
    return EngineFailed(message, status=status)
