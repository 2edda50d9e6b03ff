"""What an agent did, as JSON lines in ``HM_HOME/agents/<id>.jsonl`` (0600): enough to read it, and to go on from it.

A line is written before the next thing happens, so that a run that was killed can be resumed; its torn last line is
not counted.  Results are kept whole, also where the model read only a part of them.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from harbourmaster.core.files import SECRET_MODE, make_private_dir
from harbourmaster.core.settings import Settings
from runner.agent.events import (
    AgentEvent,
    CallAnswered,
    CallAsked,
    CallDeferred,
    CallRefused,
    MessageAdded,
    Report,
)
from runner.agent.toolset import answered
from runner.errors import RunUnknown, TranscriptInvalid

VERSION = 1
MAX_BYTES = 256 << 20  # of a transcript that is read back
_NAME = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
INTERRUPTED = "Not done: the run was interrupted before this call was answered."


@dataclass(frozen=True)
class Run:
    """A transcript, read back.  ``about`` is what the run was started with."""

    id: str
    about: dict[str, Any] = field(default_factory=dict, hash=False)
    messages: list[dict[str, Any]] = field(default_factory=list, hash=False)  # every call in them is answered
    calls: list[dict[str, Any]] = field(default_factory=list, hash=False)
    reports: list[dict[str, Any]] = field(default_factory=list, hash=False)

    @property
    def task(self) -> str:
        return next((str(m["content"]) for m in self.messages if m["role"] == "user"), "")


class Transcript:
    """
    >>> with Transcript.begin(settings, {"model": "ai/smollm2"}) as transcript:
    ...     report = await run(agent, messages, transcript.tell)
    """

    def __init__(self, path: Path) -> None:
        self.id = path.stem
        self.path = path
        make_private_dir(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, SECRET_MODE)
        self._file = os.fdopen(descriptor, "ab", buffering=0)
        if _torn(path):
            self._file.write(b"\n")

    @classmethod
    def begin(cls, settings: Settings, about: dict[str, Any]) -> Transcript:
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        transcript = cls(folder(settings) / f"{name}.jsonl")
        transcript.write("begin", version=VERSION, **about)
        return transcript

    @classmethod
    def resume(cls, settings: Settings, name: str, about: dict[str, Any]) -> tuple[Transcript, Run]:
        """Go on in the transcript ``name`` (``last``: the newest); raises ``RunUnknown`` or ``TranscriptInvalid``."""
        path = _path(settings, name)
        known = read(path)
        transcript = cls(path)
        transcript.write("resume", **about)
        return transcript, known

    def __enter__(self) -> Transcript:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, kind: str, **body: Any) -> None:
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "kind": kind, **body}
        self._file.write(json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n")

    def message(self, message: dict[str, Any]) -> None:
        self.write("message", message=message)

    def report(self, report: Report) -> None:
        self.write("report", report=report.as_dict())

    def tell(self, event: AgentEvent) -> None:
        if isinstance(event, MessageAdded):
            self.message(event.message)
        elif isinstance(event, CallAsked):
            call = event.call
            self.write("call", what="asked", id=call.id, name=call.name, arguments=call.arguments_text)
        elif isinstance(event, CallRefused):
            self.write("call", what="refused", id=event.call.id, name=event.call.name, why=event.why)
        elif isinstance(event, CallDeferred):
            self.write("call", what="deferred", id=event.call.id, name=event.call.name)
        elif isinstance(event, CallAnswered):
            result, seconds = asdict(event.result), round(event.seconds, 3)
            self.write("call", what="answered", id=event.call.id, name=event.call.name, seconds=seconds, result=result)


def folder(settings: Settings) -> Path:
    return settings.home / "agents"


def runs(settings: Settings) -> list[str]:
    """Names of all transcripts, oldest first."""
    place = folder(settings)
    return sorted(p.stem for p in place.glob("*.jsonl") if _NAME.fullmatch(p.stem)) if place.is_dir() else []


def load(settings: Settings, name: str) -> Run:
    return read(_path(settings, name))


def read(path: Path) -> Run:
    run = Run(path.stem)
    if path.stat().st_size > MAX_BYTES:
        raise TranscriptInvalid(f"{path} is over {MAX_BYTES} bytes", remedy="start a new run")
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            body = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            # A process that was killed leaves half a line: at the end, or before the line of the run that went on.
            continue
        if body is not None:
            _take(run, body, path, number)
    if run.about.get("version") != VERSION:
        raise TranscriptInvalid(f"{path} is no transcript of this version", remedy="start a new run")
    return Run(run.id, run.about, answered(run.messages, INTERRUPTED), run.calls, run.reports)


def _take(run: Run, body: Any, path: Path, number: int) -> None:
    kind = body.get("kind") if isinstance(body, dict) else None
    if kind in ("begin", "resume"):
        run.about.update({k: v for k, v in body.items() if k != "kind"})
    elif kind == "message" and _is_message(body.get("message")):
        run.messages.append(body["message"])
    elif kind == "clear":
        run.messages[:] = [m for m in run.messages[:1] if m["role"] == "system"]
    elif kind == "offered":
        pass  # which tools the model was told of: the next turn chooses again
    elif kind == "call":
        run.calls.append(body)
    elif kind == "report" and isinstance(body.get("report"), dict):
        run.reports.append(body["report"])
    else:
        raise TranscriptInvalid(f"{path} line {number} is no line of a transcript", remedy="start a new run")


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("role"), str) and "content" in message


def _path(settings: Settings, name: str) -> Path:
    known = runs(settings)
    if name == "last" and known:
        name = known[-1]
    if name not in known:
        raise RunUnknown(f"there is no run {name!r}", remedy="see hm agent ls")
    return folder(settings) / f"{name}.jsonl"


def _torn(path: Path) -> bool:
    with path.open("rb") as f:
        if not f.seek(0, os.SEEK_END):
            return False
        f.seek(-1, os.SEEK_END)
        return f.read(1) != b"\n"
