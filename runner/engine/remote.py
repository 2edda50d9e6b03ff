"""An engine that is another server's: the same interface as ``EngineProcess``, over OpenAI's API.

What that API cannot promise is refused, not hoped for: grammars, log-probabilities, token counts.  Calls of tools are checked
here like those of our own engines.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import httpx2

from harbourmaster.core.errors import HarbourError
from runner.agent.events import Call, Tool
from runner.agent.models import OpenAIModel, Question, base_url
from runner.agent.toolset import objection
from runner.chat.job import ChatEvent, ChatJob, Done, Text, ToolCall
from runner.chat.toolcalls import invalid
from runner.engine.spec import EngineSpec
from runner.errors import EngineFailed, RunnerDown, Unsupported


class RemoteEngine:
    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.ready: dict[str, Any] = {"context": spec.context or None, "template": "", "facts": {}}
        self.log: deque[str] = deque()
        self.logged = 0
        self.alive = True
        self.pid = 0
        key = os.environ.get(spec.key_env, "") if spec.key_env else ""
        self._model = OpenAIModel(spec.url, spec.remote_model, key)

    @classmethod
    async def start(cls, spec: EngineSpec, *, on_exit: Callable[[], None] = lambda: None) -> RemoteEngine:
        """Nothing is loaded here: whether the server answers is found out by the first request."""
        return cls(spec)

    def resident_bytes(self) -> int:
        return 0

    async def stop(self) -> None:
        self.alive = False

    async def chat(self, job: ChatJob) -> AsyncGenerator[ChatEvent, None]:
        tools = [Tool(t["name"], t["description"], t["parameters"]) for t in job.tools if job.tool_choice != "none"]
        question = Question(_sent(job.messages), tools, self._asked(job), job.tool_choice, job.parallel)
        known = {t.name: t for t in tools}
        calls = 0
        async with aclosing(self._model.answer(question)) as events:
            async for event in events:
                if isinstance(event, Call):
                    if why := objection(event, known):
                        raise invalid(why)
                    yield ToolCall(event.id, calls, event.name, event.arguments or {})
                    calls += 1
                elif isinstance(event, Done):
                    if not calls and job.tool_choice not in ("auto", "none") and event.reason != "length":
                        raise invalid("the other server gave no call, though one was required")
                    yield Done("tool_calls" if calls else event.reason, event.usage)
                else:
                    yield event

    def _asked(self, job: ChatJob) -> dict[str, Any]:
        return _options(job.options)

    async def stream(self, frame: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Frames as an ``EngineProcess`` gives them, of ``generate`` with messages or a text."""
        if frame["op"] != "generate" or "tokens" in frame:
            raise self._cannot(f"{frame['op']} with these inputs")
        messages = frame.get("messages") or [{"role": "user", "content": frame["prompt"]}]
        if "prompt" in frame:
            raise self._cannot("completions of a bare text")
        async with aclosing(self.chat(ChatJob(messages, frame.get("options") or {}, tool_choice="none"))) as events:
            async for event in events:
                if isinstance(event, Text):
                    yield {"ev": "delta", "text": event.text}
                elif isinstance(event, Done):
                    yield {"ev": "done", "reason": event.reason, "stop": "", "usage": vars(event.usage), "timings": {}}

    async def ask(self, frame: dict[str, Any]) -> Any:
        if frame["op"] != "embed":
            raise self._cannot(str(frame["op"]))
        return (await self.embed(frame["inputs"]))[0]

    async def embed(self, inputs: list[Any]) -> tuple[list[list[float]], int]:
        """Vectors, and the tokens that the other server counted."""
        body = {"model": self._model.model, "input": inputs, "encoding_format": "float"}
        try:
            async with self._model.client() as client:
                answer = await client.post(f"{base_url(self._model.url)}/embeddings", json=body)
        except httpx2.TransportError as e:
            raise RunnerDown(f"no model answers at {self._model.url}: {e}", remedy="start that server") from e
        try:
            if answer.status_code >= 400:
                raise EngineFailed(answer.text[:500], status=answer.status_code)
            said = answer.json()
            rows = sorted(said["data"], key=lambda row: row["index"])
            return [[float(x) for x in row["embedding"]] for row in rows], int(said["usage"]["prompt_tokens"])
        except (ValueError, LookupError, TypeError) as e:
            raise EngineFailed(f"{self._model.url} sent no embeddings: {type(e).__name__}") from e

    def _cannot(self, what: str) -> HarbourError:
        return Unsupported(
            f"{self.spec.name} is another server's model: {what} cannot be asked of it", remedy="use chat completions"
        )


def _sent(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """OpenAI's shape: arguments of calls are texts there."""
    return [{**m, "tool_calls": [_call(c) for c in m["tool_calls"]]} if m.get("tool_calls") else m for m in messages]


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {"name": function["name"], "arguments": text}}


def _options(options: dict[str, Any]) -> dict[str, Any]:
    for name in ("grammar", "logprobs"):
        if options.get(name) not in (None, ""):
            raise Unsupported(
                f"this model is another server's, which does not promise to keep a {name.replace('logprobs', 'log-probability')}",
                remedy="use a model of this runner",
                param="response_format" if name == "grammar" else name,
            )
    return {k: v for k, v in options.items() if v not in (None, "")}
