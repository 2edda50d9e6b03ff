"""Calls that need not wait for anything go without a task; what makes one wait sends it the usual way, and no client can tell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.authorization.quotas import LimitRule, Quotas
from gateway.direct import Direct
from gateway.edges.heads import HEADS
from gateway.gateway import Gateway
from harbourmaster.core.errors import UnavailableError
from tests.gateway.harness import Http, World, operator, rpc, tool_call, until
from tests.gateway.test_exchange import post

SIZE = 300  # bytes of every body here, so that all have one head


class Line:
    """One kept connection of one session."""

    def __init__(self, http: Http, session: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.http, self.session, self.reader, self.writer = http, session, reader, writer

    def send(self, name: str, arguments: Any = None, number: int = 1, **more: Any) -> str:
        """The request's id: its number, filled up."""
        params = {"name": name, "arguments": arguments or {}, **more}
        short = len(json.dumps(rpc("tools/call", params, f"{number}:")))
        request_id = f"{number}:" + "." * (SIZE - short)
        raw = json.dumps(rpc("tools/call", params, request_id)).encode()
        assert len(raw) == SIZE
        headers = {**self.http.headers(), "Mcp-Session-Id": self.session}
        self.writer.write(post("/mcp", raw, *(f"{k}: {v}" for k, v in headers.items() if k != "Host")))
        return request_id

    async def answer(self) -> tuple[int, dict[str, str], list[Any]]:
        """Status, headers, and the messages in the body, be it JSON or a stream."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        if headers.get("transfer-encoding") == "chunked":
            raw = b""
            while size := int(await self.reader.readline(), 16):
                raw += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
            messages = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith(b"data: {")]
        else:
            messages = [json.loads(await self.reader.readexactly(int(headers["content-length"])))]
        return int(head[0].split()[1]), headers, messages

    async def call(self, name: str, arguments: Any = None, **more: Any) -> Any:
        self.send(name, arguments, **more)
        return (await self.answer())[2][-1]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each request that was looked at: whether it went directly."""
    looked: list[bool] = []
    begin = Direct.begin

    def recorded(self: Direct, *args: Any) -> bool:
        looked.append(begin(self, *args))
        return looked[-1]

    monkeypatch.setattr(Direct, "begin", recorded)
    return looked


@pytest.fixture
async def line(http: Http, taken: list[bool]) -> AsyncIterator[Line]:
    """A connection whose next call goes directly."""
    HEADS._known.clear()
    session = await http.initialize()
    line = Line(http, session, *await http.open(""))
    for _ in range(3):
        await line.call("counter")
    assert taken == [True]
    yield line
    line.writer.close()
    HEADS._known.clear()


def text(message: Any) -> str:
    return str(message["result"]["content"][0]["text"])


async def test_a_direct_call_has_the_answer_and_the_record_of_any_other(
    line: Line, http: Http, world: World, taken: list[bool]
) -> None:
    direct = await line.call("counter", {"n": 1})
    usual = await http.call(line.session, "tools/call", tool_call("counter", {"n": 1}), request_id=direct["id"])
    assert taken[1:] == [True]
    assert int(text(usual)) == int(text(direct)) + 1
    assert {**usual, "result": 0} == {**direct, "result": 0}
    first, second = world.calls()[-2:]
    same = {"duration_ms": 0}
    assert {**first, **same} == {**second, **same}
    assert first["duration_ms"] > 0


@pytest.mark.parametrize("tool", ["fail", "rpc_error", "media", "whoami", "numbers"])
async def test_whatever_a_server_answers_arrives_as_it_does_the_usual_way(
    line: Line, http: Http, world: World, taken: list[bool], tool: str
) -> None:
    direct = await line.call(tool)
    usual = await http.call(line.session, "tools/call", tool_call(tool, {}), request_id=direct["id"])
    assert taken[1:] == [True]
    assert direct == usual
    first, second = world.calls()[-2:]
    assert first["outcome"] == second["outcome"]


async def test_wrong_arguments_and_unknown_tools_are_told_as_ever(line: Line, http: Http, world: World) -> None:
    world_calls = len(world.calls())
    for name, arguments in (("region", {"where": 1}), ("nobody", {})):
        direct = await line.call(name, arguments)
        usual = await http.call(line.session, "tools/call", tool_call(name, arguments), request_id=direct["id"])
        assert direct == usual
    assert [r["outcome"] for r in world.calls()[world_calls:]] == ["refused"] * 4


async def test_progress_of_a_direct_call_begins_a_stream(line: Line, taken: list[bool]) -> None:
    line.send("progress", _meta={"progressToken": "mine"})
    status, headers, (first, second, last) = await line.answer()
    assert taken[1:] == [True]
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert [m["params"]["progress"] for m in (first, second)] == [1, 2]
    assert first["params"]["progressToken"] == "mine"
    assert text(last) == "done"
    assert int(text(await line.call("counter"))) == 4, "the connection goes on"


async def test_a_server_that_dies_in_a_direct_call_is_told_and_the_next_call_gets_a_fresh_one(
    line: Line, world: World, taken: list[bool]
) -> None:
    dead = await line.call("crash")
    assert taken[1:] == [True]
    assert dead["error"]["data"]["code"] == "gateway.server_exited"
    assert world.calls()[-1]["code"] == "gateway.server_exited"
    assert text(await line.call("counter")) == "1"
    assert taken[2:] == [False]
    assert text(await line.call("counter")) == "2"
    assert taken[3:] == [True]


async def test_a_direct_call_is_not_made_again_where_the_sandbox_may_have_remembered_something(
    line: Line, taken: list[bool], world: World
) -> None:
    """The tool is marked idempotent, but the session had calls before: the rule is that of every call."""
    started = len(world.started)
    answer = await line.call("flaky")
    assert taken[1:] == [True]
    assert len(world.started) == started
    assert answer["error"]["data"]["code"] == "gateway.server_exited"


async def test_a_direct_call_can_be_cancelled(line: Line, http: Http, gateway: Gateway, taken: list[bool]) -> None:
    request_id = line.send("hang")
    found = gateway.sessions.get(line.session, operator(gateway))
    assert found is not None
    await until(lambda: request_id in found.calls)
    upstream_id = found.calls[request_id].upstream_id
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request_id}}
    assert (await http.request(body=note, Mcp_Session_Id=line.session)).status == 202
    _, _, (answer,) = await line.answer()
    assert taken[1:] == [True]
    assert (answer["id"], answer["error"]["code"]) == (request_id, -32800)
    assert json.loads(text(await line.call("last_cancelled"))) == [upstream_id]
    assert not found.calls


async def test_a_direct_call_that_takes_too_long_ends(line: Line, gateway: Gateway, taken: list[bool]) -> None:
    request_id = line.send("hang")
    found = gateway.sessions.get(line.session, operator(gateway))
    assert found is not None
    await until(lambda: request_id in found.calls)
    found.calls[request_id].deadline = 0
    _, _, messages = await line.answer()
    assert messages[-1]["error"]["data"]["code"] == "gateway.call_timeout"
    assert int(text(await line.call("counter"))) == 4


async def test_requests_behind_a_direct_call_are_answered_after_it(line: Line, taken: list[bool]) -> None:
    first = line.send("slow", {"seconds": 0.2}, number=1)
    second = line.send("counter", number=2)
    third = line.send("counter", number=3)
    answers = [(await line.answer())[2][-1] for _ in range(3)]
    assert [a["id"] for a in answers] == [first, second, third]
    assert [text(a) for a in answers[1:]] == ["4", "5"]


async def test_a_client_that_leaves_in_a_direct_call_leaves_a_record(
    line: Line, http: Http, world: World, gateway: Gateway
) -> None:
    before = len(world.calls())
    request_id = line.send("slow", {"seconds": 0.2})
    found = gateway.sessions.get(line.session, operator(gateway))
    assert found is not None
    await until(lambda: request_id in found.calls)
    line.writer.close()
    await until(lambda: len(world.calls()) > before, "the record")
    assert world.calls()[-1]["outcome"] == "ok"
    assert not found.calls
    assert text(await http.call(line.session, "tools/call", tool_call("counter", {}))) == "4"


async def test_a_session_that_ends_in_a_direct_call_ends_it(line: Line, http: Http, gateway: Gateway) -> None:
    request_id = line.send("hang")
    found = gateway.sessions.get(line.session, operator(gateway))
    assert found is not None
    await until(lambda: request_id in found.calls)
    assert (await http.request("DELETE", Mcp_Session_Id=line.session)).status == 204
    assert "error" in (await line.answer())[2][-1]


async def test_a_limit_counts_direct_calls_and_gives_them_back(line: Line, gateway: Gateway, taken: list[bool]) -> None:
    authorizer = gateway._gate.authorizer
    authorizer.quotas = Quotas((LimitRule(concurrent=1),))
    authorizer._rights.clear()
    found = gateway.sessions.get(line.session, operator(gateway))
    assert found is not None
    found.rights = None
    for _ in range(3):
        assert "result" in await line.call("counter")
    authorizer.quotas = Quotas((LimitRule(per_minute=1),))
    authorizer._rights.clear()
    found.rights = None
    assert "result" in await line.call("counter")
    line.send("counter")
    _, headers, (refused,) = await line.answer()
    assert refused["error"]["data"]["code"] == "limit.rate"
    assert int(headers["retry-after"]) > 0
    assert all(taken)


async def test_what_cannot_be_recorded_is_not_answered(line: Line, world: World, taken: list[bool]) -> None:
    world.audit_error = UnavailableError("the disk is full", remedy="make room")
    assert "error" in await line.call("counter")
    assert taken[1:] == [True]
    assert "error" in await line.call("counter")
    assert taken[2:] == [False], "while the audit is down, nothing begins"
    world.audit_error = None
    assert text(await line.call("counter")) == "5"


async def test_a_server_that_asks_in_a_direct_call_is_answered(line: Line, http: Http, taken: list[bool]) -> None:
    session = await http.initialize(capabilities={"sampling": {}})
    asking = Line(http, session, *await http.open(""))
    for _ in range(3):
        await asking.call("counter")
    del taken[:]
    asking.send("sample")
    head = await asking.reader.readuntil(b"\r\n\r\n")
    assert b"text/event-stream" in head
    while not (said := await asking.reader.readline()).startswith(b"data: {"):
        pass
    question = json.loads(said[6:])
    assert question["method"] == "sampling/createMessage"
    reply = {
        "jsonrpc": "2.0",
        "id": question["id"],
        "result": {"role": "assistant", "content": {"type": "text", "text": "4"}},
    }
    assert (await http.request(body=reply, Mcp_Session_Id=session)).status == 202
    while not (said := await asking.reader.readline()).startswith(b"data: {"):
        pass
    assert "assistant" in text(json.loads(said[6:]))
    assert taken == [True]
    asking.writer.close()


async def test_an_old_verdict_sends_a_call_the_usual_way(
    line: Line, gateway: Gateway, world: World, taken: list[bool]
) -> None:
    gateway._admissions.forget()
    assert text(await line.call("counter")) == "4"
    assert taken[1:] == [False]
    assert text(await line.call("counter")) == "5"
    assert taken[2:] == [True]
