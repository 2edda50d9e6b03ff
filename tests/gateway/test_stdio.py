"""The stdio edge: a gateway as a child process, lines in and lines out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.harness import enveloped, rpc, tool_call

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-m", "tests.gateway.stdio_gateway")


class Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def say(self, body: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write((body if isinstance(body, bytes) else json.dumps(body).encode()) + b"\n")

    async def hear(self) -> Any:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, "stdout ended"
        return json.loads(line)

    async def ask(self, method: str, params: Any = None, request_id: Any = 1) -> Any:
        self.say(rpc(method, params, request_id))
        return await self.hear()

    async def begin(self, capabilities: Any = None, version: str = "2025-11-25") -> None:
        hello = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "c", "version": "1"},
        }
        reply = await self.ask("initialize", hello, "init")
        assert reply["result"]["serverInfo"]["name"] == "harbourmaster"
        self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return await self.process.wait()


@pytest.fixture
async def child(home: Path) -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    yield Child(process)
    if process.returncode is None:
        process.kill()
    await process.communicate()


def text(reply: Any) -> str:
    return str(reply["result"]["content"][0]["text"])


async def test_a_handshake_client_calls_tools_of_two_servers(child: Child) -> None:
    await child.begin()
    tools = (await child.ask("tools/list"))["result"]["tools"]
    assert len([t for t in tools if t["name"].endswith("__echo")]) == 2
    assert text(await child.ask("tools/call", tool_call("alpha__counter"))) == "1"
    assert text(await child.ask("tools/call", tool_call("beta__counter"))) == "1"
    assert text(await child.ask("tools/call", tool_call("alpha__counter"))) == "2"
    assert await child.end() == 0


async def test_both_eras_share_one_stream_and_not_their_sandboxes(child: Child) -> None:
    found = await child.ask("server/discover", enveloped({}))
    assert found["result"]["supportedVersions"] == ["2026-07-28"]
    modern = await child.ask("tools/call", enveloped(tool_call("alpha__counter")), "m")
    assert (modern["id"], modern["result"]["resultType"]) == ("m", "complete")
    await child.begin()
    assert text(await child.ask("tools/call", tool_call("alpha__counter"))) == "1"


async def test_requests_before_initialize_are_refused(child: Child) -> None:
    assert (await child.ask("tools/list"))["error"]["code"] == -32600
    assert (await child.ask("ping"))["result"] == {}


async def test_progress_and_questions_share_the_stream(child: Child) -> None:
    await child.begin({"elicitation": {}})
    child.say(rpc("tools/call", tool_call("alpha__progress", _meta={"progressToken": 9}), 2))
    assert [(await child.hear())["params"]["progress"] for _ in range(2)] == [1, 2]
    assert (await child.hear())["id"] == 2
    question = await child.ask("tools/call", tool_call("alpha__elicit"), 3)
    assert question["method"] == "elicitation/create"
    child.say({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}})
    assert json.loads(text(await child.hear())) == {"action": "decline"}


async def test_a_modern_client_is_asked_by_an_input_required_result(child: Child) -> None:
    capabilities = {"elicitation": {}}
    first = (await child.ask("tools/call", enveloped(tool_call("alpha__elicit"), capabilities)))["result"]
    (key,) = first["inputRequests"]
    more = {"requestState": first["requestState"], "inputResponses": {key: {"action": "accept"}}}
    last = await child.ask("tools/call", enveloped(tool_call("alpha__elicit", **more), capabilities), 2)
    assert json.loads(text(last)) == {"action": "accept"}


@pytest.mark.parametrize("modern", [False, True])
async def test_a_cancelled_call_gets_no_answer_and_the_server_hears_of_it(child: Child, modern: bool) -> None:
    wrap = enveloped if modern else (lambda params: params)
    await child.begin()
    await child.ask("tools/call", wrap(tool_call("alpha__counter")))
    child.say(rpc("tools/call", wrap(tool_call("alpha__hang")), "h"))
    child.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "h"}})
    said = await child.ask("tools/call", wrap(tool_call("alpha__last_cancelled")), "after")
    assert said["id"] == "after"
    assert len(json.loads(text(said))) == 1


async def test_a_listener_on_stdio_ends_when_it_is_cancelled(child: Child) -> None:
    wanted = {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["alpha+note://one"]}}
    ack = await child.ask("subscriptions/listen", enveloped(wanted), "sub")
    assert ack["params"]["notifications"]["resourceSubscriptions"] == ["alpha+note://one"]
    child.say(rpc("tools/call", enveloped(tool_call("alpha__touch")), 2))
    heard = [await child.hear() for _ in range(3)]
    updated = next(m for m in heard if m.get("method") == "notifications/resources/updated")
    assert updated["params"]["uri"] == "alpha+note://one"
    child.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "sub"}})
    assert (await child.hear())["id"] == "sub"


async def test_lines_that_are_no_messages_are_answered_and_the_stream_goes_on(child: Child) -> None:
    await child.begin()
    for raw, code in ((b"{", -32700), (b"[]", -32600), (b"\xff", -32700), (b"7", -32600)):
        child.say(raw)
        assert (await child.hear())["error"]["code"] == code
    child.say(b"")
    child.say(b"{" + b" " * (5 << 20) + b"}")
    assert (await child.hear())["error"]["code"] == -32600
    assert (await child.ask("ping"))["result"] == {}


async def test_a_batch_is_answered_in_the_one_revision_that_has_batches(child: Child) -> None:
    await child.begin(version="2025-03-26")
    child.say([rpc("ping", None, 1), rpc("tools/call", tool_call("alpha__counter"), 2)])
    assert [a["id"] for a in await child.hear()] == [1, 2]


async def test_the_end_of_stdin_lets_a_call_in_flight_answer(child: Child) -> None:
    await child.begin()
    child.say(rpc("tools/call", tool_call("alpha__slow", {"seconds": 0.2}), 5))
    ending = asyncio.create_task(child.end())
    assert (await child.hear())["id"] == 5
    assert await ending == 0


async def test_a_signal_ends_it_cleanly_with_its_sandboxes(child: Child) -> None:
    await child.begin()
    pid = json.loads(text(await child.ask("tools/call", tool_call("alpha__whoami"))))["pid"]
    child.process.send_signal(signal.SIGTERM)
    assert await child.process.wait() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
