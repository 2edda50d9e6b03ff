"""One chat request in no dialect, and the events that answer it.  The OpenAI, Anthropic and Ollama APIs translate."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def plus(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


class Text(NamedTuple):  # the one event that comes with every token
    text: str
    logprobs: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class ToolCall:
    """A whole call, checked against the tool's schema."""

    id: str
    index: int
    name: str
    arguments: dict[str, Any]

    @property
    def arguments_text(self) -> str:
        return json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True)
class Done:
    reason: str  # stop, length, tool_calls, cancelled
    usage: Usage
    stop: str = ""  # the stop string that was met
    timings: dict[str, float] = field(default_factory=dict)


ChatEvent = Text | ToolCall | Done


class Engine(Protocol):
    ready: dict[str, Any]

    def stream(self, frame: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]: ...


@dataclass(frozen=True)
class ChatJob:
    messages: list[dict[str, Any]]  # OpenAI's shape; contents are texts, or lists of parts where there are pictures
    options: dict[str, Any]  # as ``engine.options`` reads them
    tools: list[dict[str, Any]] = field(default_factory=list)  # {"name", "description", "parameters"}
    tool_choice: str = "auto"  # auto, none, required, or the name of one tool
    parallel: bool = True
    template_args: dict[str, Any] = field(default_factory=dict)
    whole: bool = False  # the text is wanted at the end, in one piece


async def generate(engine: Engine, frame: dict[str, Any]) -> AsyncGenerator[Text | Done, None]:
    """The engine's frames as events."""
    async with aclosing(engine.stream({"op": "generate", **frame})) as answers:
        async for answer in answers:
            if answer["ev"] == "delta":
                logprob = answer.get("logprob")
                yield Text(answer["text"], (logprob,) if logprob else ())
            elif answer["ev"] == "done":
                yield Done(answer["reason"], Usage(**answer["usage"]), answer["stop"], answer["timings"])
