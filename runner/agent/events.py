"""What a run tells while it goes on, and what it reports at its end."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from harbourmaster.core.errors import HarbourError
from runner.agent.budget import Limit


@dataclass(frozen=True)
class Tool:
    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}}, hash=False)
    read_only: bool = False  # MCP's readOnlyHint: the server says so, nobody checks it
    external: bool = False  # whoever started the run carries it out
    title: str = ""

    def for_model(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description, "parameters": self.parameters}


@dataclass(frozen=True)
class Call:
    """What the model asks for.  ``arguments`` is None where its text is no JSON object."""

    id: str
    name: str
    arguments_text: str
    arguments: dict[str, Any] | None = field(default=None, hash=False)


@dataclass(frozen=True)
class ToolResult:
    text: str
    is_error: bool = False
    structured: Any = field(default=None, hash=False)


@dataclass(frozen=True)
class RoundBegun:
    number: int


@dataclass(frozen=True)
class Said:
    """A piece of what the model writes."""

    text: str


@dataclass(frozen=True)
class MessageAdded:
    """The conversation grew by this message (OpenAI's shape): what a transcript keeps."""

    message: dict[str, Any] = field(hash=False)


@dataclass(frozen=True)
class CallAsked:
    call: Call


@dataclass(frozen=True)
class CallStarted:
    call: Call


@dataclass(frozen=True)
class CallRefused:
    """It was not carried out: unknown tool, arguments that do not fit, or nobody approved."""

    call: Call
    why: str


@dataclass(frozen=True)
class CallDeferred:
    """It is left to whoever started the run: to carry out, or to approve."""

    call: Call
    external: bool


@dataclass(frozen=True)
class CallAnswered:
    call: Call
    result: ToolResult
    seconds: float


AgentEvent = RoundBegun | Said | MessageAdded | CallAsked | CallStarted | CallRefused | CallDeferred | CallAnswered

Outcome = Literal["answered", "deferred", "budget", "no_usable_call", "no_answer", "failed"]


@dataclass(frozen=True)
class Report:
    """``outcome``: ``answered`` (the model ended by itself), ``deferred`` (calls wait for others), ``budget`` (a limit ended it),
    ``no_usable_call`` (what it wrote as calls was no use), ``no_answer`` (it wrote nothing, or was cut off), ``failed``."""

    outcome: Outcome
    why: str
    answer: str = ""
    rounds: int = 0
    calls: int = 0  # carried out
    failed_calls: int = 0  # of these, those whose tool reported an error
    refused_calls: int = 0  # not carried out
    tokens: int = 0
    read_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0
    limit: Limit = ""  # with ``budget``
    error: HarbourError | None = field(default=None, compare=False)  # with ``failed``

    @property
    def ok(self) -> bool:
        return self.outcome == "answered"

    def as_dict(self) -> dict[str, Any]:
        body = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "error"}
        return {**body, "seconds": round(self.seconds, 3), "code": self.error.code if self.error else ""}

    def line(self) -> str:
        """One sentence for people."""
        calls = f"{self.calls} calls" if self.calls != 1 else "1 call"
        failed = f", {self.failed_calls} failed" if self.failed_calls else ""
        refused = f", {self.refused_calls} refused" if self.refused_calls else ""
        rounds = f"{self.rounds} rounds" if self.rounds != 1 else "1 round"
        return f"{self.why} ({rounds}, {calls}{failed}{refused}, {self.tokens} tokens, {self.seconds:.1f} s)"
