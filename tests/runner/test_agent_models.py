"""A model's server that is none, breaks off, or sends what no server should: the run ends with a report, never with a fault."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from runner.agent.approval import allow_all
from runner.agent.budget import Budget
from runner.agent.events import Report, Tool, ToolResult
from runner.agent.loop import Agent, run
from runner.agent.models import OpenAIModel
from tests.runner.conftest import free_port


class Strange(http.server.ThreadingHTTPServer):
    status = 200
    body = b""
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Strange

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            self.wfile.write(self.server.body)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def strange() -> Iterator[Strange]:
    with Strange() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Box:
    tools = (Tool("add", "Add"),)

    async def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        return ToolResult(f"{name} {json.dumps(arguments)}")


async def ask(port: int) -> Report:
    model = OpenAIModel(f"http://127.0.0.1:{port}", "m", "secret")
    return await run(Agent(model, Box(), Budget(rounds=2), allow_all), [{"role": "user", "content": "Hi"}])


def sse(*bodies: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(b).encode() + b"\n\n" for b in bodies)


def delta(reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def piece(index: int, **function: Any) -> dict[str, Any]:
    return delta(tool_calls=[{"index": index, "function": function}])


async def test_pieces_of_calls_are_put_together(strange: Strange) -> None:
    strange.body = sse(
        piece(0, name="add", arguments='{"a"'), piece(1, name="add", arguments=""), piece(0, arguments=": 1}"), delta("tool_calls")
    )  # fmt: skip
    report = await ask(strange.server_port)
    assert (report.calls, report.refused_calls) == (2, 2), "tools are not offered in the last round"
    assert report.outcome == "budget"
    [call, other] = strange.asked[1]["messages"][1]["tool_calls"]
    assert (call["function"]["arguments"], other["function"]["arguments"]) == ('{"a": 1}', "{}")
    results = [m["content"] for m in strange.asked[1]["messages"] if m["role"] == "tool"]
    assert results == ['add {"a": 1}', "add {}"]


async def test_a_call_that_was_cut_off_is_none(strange: Strange) -> None:
    strange.body = sse(piece(0, name="add", arguments='{"a'), delta("length"))
    report = await ask(strange.server_port)
    assert (report.outcome, report.calls) == ("no_usable_call", 0)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "ended the stream in mid-answer"),
        (sse(delta(content="Hello")), "ended the stream in mid-answer"),
        (b"data: nonsense\n\n", "none of OpenAI's"),
        (b"data: []\n\n", "none of OpenAI's"),
        (sse({"choices": ["x"]}), "none of OpenAI's"),
        (sse({"choices": {"a": 1}}), "none of OpenAI's"),
        (sse(delta(tool_calls=[7])), "none of OpenAI's"),
        (sse(delta(tool_calls=[{"index": "x"}])), "none of OpenAI's"),
        (sse({"choices": [], "usage": {"prompt_tokens": "many"}}), "none of OpenAI's"),
        (b"data: " + b"[" * 200_000 + b"\n\n", "none of OpenAI's"),
        (b"data: " + b"x" * (9 << 20), "an event of over"),
        (sse({"error": {"message": "out of memory"}}), "out of memory"),
        (sse({"error": "just a text"}), "just a text"),
    ],
)
async def test_what_is_no_answer_is_a_failure_with_the_reason(strange: Strange, body: bytes, why: str) -> None:
    strange.body = body
    report = await ask(strange.server_port)
    assert report.outcome == "failed"
    assert why in report.why


async def test_too_many_calls_at_once_are_no_usable_call(strange: Strange) -> None:
    strange.body = sse(*(piece(i, name="add", arguments="{}") for i in range(100)), delta("tool_calls"))
    report = await ask(strange.server_port)
    assert (report.outcome, report.calls) == ("no_usable_call", 0)


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [(500, b"<html>", "<html>"), (401, b'{"error": {"message": "bad key"}}', "bad key"), (404, b"", "HTTP status 404")],
)
async def test_a_refusal_says_what_the_server_said(strange: Strange, status: int, body: bytes, why: str) -> None:
    strange.status, strange.body = status, body
    report = await ask(strange.server_port)
    assert report.outcome == "failed"
    assert why in report.why
    assert "secret" not in report.why


async def test_no_server_at_all_is_said(strange: Strange) -> None:
    report = await ask(free_port())
    assert (report.outcome, report.error and report.error.code) == ("failed", "runner.down")
