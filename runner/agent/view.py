"""A run on a terminal: the model's words on stdout as they come, calls and what became of them on stderr."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from harbourmaster.core.program import as_typed
from runner.agent.events import (
    AgentEvent,
    Call,
    CallAnswered,
    CallDeferred,
    CallRefused,
    CallStarted,
    Report,
    Said,
    Tool,
)

WIDTH = 160  # characters of an argument or a result on one line
_COLOURS = {"call": "\x1b[33m", "good": "\x1b[32m", "bad": "\x1b[31m", "dim": "\x1b[2m"}


class View:
    def __init__(self, out: TextIO | None = None, err: TextIO | None = None, *, quiet: bool = False) -> None:
        self._out, self._err, self._quiet = out or sys.stdout, err or sys.stderr, quiet
        self._colour = self._err.isatty()
        self._mid_line = False

    def tell(self, event: AgentEvent) -> None:
        if self._quiet:
            return
        if isinstance(event, Said):
            self._out.write(printable(event.text))
            self._out.flush()
            self._mid_line = not event.text.endswith("\n")
        elif isinstance(event, CallStarted):
            self._line("call", f"-> {event.call.name} {short(event.call.arguments_text)}")
        elif isinstance(event, CallAnswered):
            mark, kind = ("!!", "bad") if event.result.is_error else ("<-", "good")
            self._line(kind, f"{mark} {event.call.name} {event.seconds:.2f} s: {short(event.result.text)}")
        elif isinstance(event, CallRefused):
            self._line("bad", f"xx {event.call.name} {short(event.call.arguments_text)}: {event.why}")
        elif isinstance(event, CallDeferred):
            self._line("call", f".. {event.call.name} {short(event.call.arguments_text)}")

    def note(self, text: str) -> None:
        """Something that a person should know before the model begins; on stderr, also where the rest is JSON."""
        self._line("dim", f"-- {text}")

    def report(self, report: Report) -> None:
        self.end_line()
        self._line("dim" if report.ok else "bad", as_typed(f"-- {report.outcome.replace('_', ' ')}: {report.line()}"))

    def end_line(self) -> None:
        if self._mid_line:
            self._out.write("\n")
            self._out.flush()
            self._mid_line = False

    def _line(self, kind: str, text: str) -> None:
        self.end_line()
        text = printable(text.replace("\n", " "))
        self._err.write(f"{_COLOURS[kind]}{text}\x1b[0m\n" if self._colour else f"{text}\n")
        self._err.flush()


def question(call: Call, tool: Tool) -> str:
    """What a person is asked; arguments whole, for they decide."""
    arguments = json.dumps(call.arguments, ensure_ascii=False, indent=2)
    about = f"  {short(tool.description)}\n" if tool.description else ""
    return printable(
        f"The model wants to call {call.name}, which does not say that it only reads.\n{about}{arguments}\n"
    )


def short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."


def printable(text: str) -> str:
    """What a model or a tool says must not drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def as_json(report: Report, run_id: str, path: str) -> dict[str, Any]:
    return {**report.as_dict(), "run": run_id, "transcript": path}
