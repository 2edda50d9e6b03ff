"""The program in the sandbox of ``mcp-code``: an MCP server with one tool, ``run``, that runs a script.

Standard library only; it is copied into an image, and nothing here imports it.  The script's calls leave as requests of
ours to the gateway (``harbourmaster/call``), which authorizes each like a call of the client's own.  One message is one
line.  What this program says is not trusted: all limits are held outside, those here only save work.
"""

from __future__ import annotations

import io
import json
import sys
import traceback
from typing import Any

OUTPUT = 256 * 1024  # characters that a script may print; the gateway cuts further
CALL = "harbourmaster/call"


class ToolError(Exception):
    """A tool answered with an error; the message is what it said."""


class OutputLimit(Exception):
    """The script printed too much."""


class Wire:
    def __init__(self) -> None:
        self._in, self._out = sys.stdin, sys.stdout
        self._asked = 0
        self._answers: dict[str, dict[str, Any]] = {}

    def say(self, **body: Any) -> None:
        self._out.write(json.dumps({"jsonrpc": "2.0", **body}) + "\n")
        self._out.flush()

    def hear(self) -> dict[str, Any]:
        line = self._in.readline()
        if not line:
            sys.exit(0)
        body: dict[str, Any] = json.loads(line)
        return body

    def ask(self, name: str, arguments: dict[str, Any]) -> str:
        self._asked += 1
        ours = f"call-{self._asked}"
        self.say(id=ours, method=CALL, params={"name": name, "arguments": arguments})
        return ours

    def answer(self, ours: str) -> dict[str, Any]:
        while ours not in self._answers:
            body = self.hear()
            if "method" not in body:
                self._answers[str(body.get("id"))] = body
            elif body["method"] == "ping":
                self.say(id=body["id"], result={})
        return self._answers.pop(ours)


class Paper(io.TextIOBase):
    """What the script prints."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._size += len(text)
        if self._size > OUTPUT:
            raise OutputLimit(f"a script may print {OUTPUT} characters")
        self._parts.append(text)
        return len(text)

    def text(self) -> str:
        return "".join(self._parts)


def value_of(reply: dict[str, Any]) -> Any:
    """The structured content, else the text, of a tool's answer."""
    if "error" in reply:
        raise ToolError(str((reply["error"] or {}).get("message", "refused")))
    answer = reply.get("result") or {}
    parts = [item.get("text", "") for item in answer.get("content") or [] if item.get("type") == "text"]
    if answer.get("isError"):
        raise ToolError("\n".join(parts) or "the tool gave no reason")
    return answer["structuredContent"] if "structuredContent" in answer else "\n".join(parts)


def run(wire: Wire, script: str) -> dict[str, Any]:
    """Run ``script``; what it printed, what it gave ``result``, and how it failed."""
    paper, given = Paper(), {}

    def call(name: str, arguments: dict[str, Any] | None = None, **more: Any) -> Any:
        return value_of(wire.answer(wire.ask(name, {**(arguments or {}), **more})))

    def call_all(calls: list[tuple[str, dict[str, Any]]]) -> list[Any]:
        asked = [wire.ask(name, arguments) for name, arguments in calls]
        return [value_of(wire.answer(ours)) for ours in asked]

    def result(value: Any) -> None:
        given["result"] = json.loads(json.dumps(value))

    names = {"__name__": "__main__", "call": call, "call_all": call_all, "result": result, "ToolError": ToolError}
    sys.stdout = paper
    try:
        exec(compile(script, "script", "exec"), names)  # noqa: S102 - that is what it is for, in its own sandbox
        error = None
    except SystemExit:
        error = None
    except BaseException as e:
        error = "".join(traceback.format_exception(type(e), e, e.__traceback__.tb_next if e.__traceback__ else None))
    finally:
        sys.stdout = sys.__stdout__
    return {"output": paper.text(), "result": given.get("result"), "error": error}


def serve() -> None:
    wire = Wire()
    while True:
        body = wire.hear()
        method, ours, params = body.get("method"), body.get("id"), body.get("params") or {}
        if method == "initialize":
            version = params.get("protocolVersion")
            info = {"name": "code-runner", "version": "1"}
            wire.say(id=ours, result={"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info})
        elif method == "tools/list":
            schema = {"type": "object", "properties": {"script": {"type": "string"}}, "required": ["script"]}
            wire.say(id=ours, result={"tools": [{"name": "run", "inputSchema": schema}]})
        elif method == "tools/call":
            body = run(wire, str((params.get("arguments") or {}).get("script", "")))
            wire.say(id=ours, result={"content": [], "structuredContent": body, "isError": body["error"] is not None})
        elif ours is not None:
            wire.say(id=ours, **({"result": {}} if method == "ping" else _unknown()))


def _unknown() -> dict[str, Any]:
    return {"error": {"code": -32601, "message": "Method not found"}}


if __name__ == "__main__":
    serve()
