"""Streams of handshake sessions that go on after a lost connection (2025-11-25, "Resumability and Redelivery")."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.gateway import Gateway
from gateway.limits import LIMITS
from gateway.replay import Event, Follower, Replay
from tests.gateway.harness import Http, operator, rpc, tool_call, until

Next = Callable[[], Awaitable[dict[str, Any]]]
ELICIT = rpc("tools/call", tool_call("elicit"), 7)


@contextlib.asynccontextmanager
async def streamed(http: Http, method: str, body: Any = None, **changes: str | None) -> AsyncIterator[Next]:
    """A request whose events are read whole, ids and all; leaving drops the connection."""
    raw = b"" if body is None else json.dumps(body).encode()
    headers = {"Content-Length": str(len(raw)), **http.headers(**changes)}
    head = [f"{method} /mcp HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    reader, writer = await http.open("\r\n".join(head) + "\r\n\r\n", raw)

    async def following() -> dict[str, Any]:
        event: dict[str, Any] = {}
        while True:
            line = (await asyncio.wait_for(reader.readline(), 20)).decode()
            assert line, "the stream ended early"
            name, found, value = line.rstrip("\r\n").partition(": ")
            if found and name in ("id", "retry", "data"):
                event[name] = value
            elif not line.strip() and "data" in event:
                return {**event, "data": json.loads(event["data"]) if event["data"] else None}

    try:
        yield following
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def accept(http: Http, session: str, question: Any) -> None:
    reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}}
    assert (await http.request(body=reply, Mcp_Session_Id=session)).status == 202


async def test_a_stream_begins_with_an_id_and_says_when_to_come_back(http: Http) -> None:
    session = await http.initialize(capabilities={"elicitation": {}})
    async with streamed(http, "POST", ELICIT, Mcp_Session_Id=session) as following:
        first, second = await following(), await following()
        assert first["data"] is None
        assert int(first["retry"]) > 0
        assert second["data"]["method"] == "elicitation/create"
        assert len({first["id"], second["id"]}) == 2


@pytest.mark.parametrize("heard", [1, 2])
async def test_a_client_that_lost_its_connection_hears_the_rest_of_its_stream(http: Http, heard: int) -> None:
    session = await http.initialize(capabilities={"elicitation": {}})
    async with streamed(http, "POST", ELICIT, Mcp_Session_Id=session) as following:
        events = [await following(), await following()]
    await accept(http, session, events[1]["data"])
    last = events[heard - 1]["id"]
    async with streamed(http, "GET", Mcp_Session_Id=session, Last_Event_ID=last) as following:
        rest = [await following() for _ in range(3 - heard)]
    assert rest[-1]["data"]["id"] == 7
    assert "accept" in rest[-1]["data"]["result"]["content"][0]["text"]
    assert [e["data"].get("method") for e in rest[:-1]] == ["elicitation/create"] * (2 - heard)


async def test_a_resumed_stream_goes_on_and_ends_with_its_result(http: Http) -> None:
    session = await http.initialize(capabilities={"elicitation": {}})
    async with streamed(http, "POST", ELICIT, Mcp_Session_Id=session) as following:
        question = [await following(), await following()][1]
    body = http.request("GET", Mcp_Session_Id=session, Last_Event_ID=question["id"])
    resumed = asyncio.create_task(body)
    await accept(http, session, question["data"])
    response = await resumed
    assert [e["id"] for e in response.events] == [7]


async def test_a_stream_is_not_told_what_was_said_on_another(http: Http) -> None:
    session = await http.initialize(capabilities={"elicitation": {}})
    async with streamed(http, "POST", ELICIT, Mcp_Session_Id=session) as following:
        first = [await following(), await following()]
    other = {**ELICIT, "id": 8}
    async with streamed(http, "POST", other, Mcp_Session_Id=session) as following:
        second = [await following(), await following()]
        await accept(http, session, second[1]["data"])
        assert (await following())["data"]["id"] == 8
    await accept(http, session, first[1]["data"])
    response = await http.request("GET", Mcp_Session_Id=session, Last_Event_ID=first[1]["id"])
    assert [e["id"] for e in response.events] == [7]


async def test_a_standing_stream_repeats_what_its_client_missed(http: Http) -> None:
    session = await http.initialize()
    async with streamed(http, "GET", Mcp_Session_Id=session) as following:
        await http.call(session, "tools/call", tool_call("touch"))
        events = [await following(), await following()]
    assert events[1]["data"]["method"] == "notifications/tools/list_changed"
    async with streamed(http, "GET", Mcp_Session_Id=session, Last_Event_ID=events[0]["id"]) as following:
        assert await following() == events[1]


@pytest.mark.parametrize("last", ["g-99999999999999999999", "9-1", "nonsense", "g-", "-", "g-²"])
async def test_an_id_that_nobody_knows_opens_a_stream_like_any_other(http: Http, gateway: Gateway, last: str) -> None:
    session = await http.initialize()
    async with http.events("GET", Mcp_Session_Id=session, Last_Event_ID=last) as following:
        await until(lambda: gateway.sessions.get(session, operator(gateway)).stream.push(b"{}"), "a standing stream")
        assert await following() == {}


async def test_clients_of_earlier_revisions_get_no_event_without_data(http: Http) -> None:
    session = await http.initialize("2025-06-18", {"elicitation": {}})
    async with streamed(http, "POST", ELICIT, Mcp_Session_Id=session) as following:
        assert set(await following()) == {"data"}


class Heard(Follower):
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.ended = False

    def follow(self, event: Event) -> None:
        self.messages.append(event.message)

    def end(self) -> None:
        self.ended = True


def test_the_second_connection_to_a_stream_takes_over_from_the_first() -> None:
    log = Replay(lambda: 0.0).open()
    log.add(b"one")
    first, second = Heard(), Heard()
    log.resume(first, 0)
    log.resume(second, 1)
    log.add(b"two")
    log.finish()
    assert (first.messages, second.messages) == ([b"one"], [b"two"])
    assert first.ended
    assert second.ended


def test_only_the_newest_events_are_kept_within_the_limit() -> None:
    replay = Replay(lambda: 0.0)
    log = replay.open()
    for _ in range(5):
        log.add(b"x" * (LIMITS.replay_bytes // 3))
    assert [e.number for e in log.after(0)] == [3, 4, 5]
    log.add(b"x" * (LIMITS.replay_bytes + 1))
    assert log.after(0) == []


def test_a_stream_is_forgotten_when_it_is_over_and_old() -> None:
    now = [0.0]
    replay = Replay(lambda: now[0])
    done, running = replay.open(), replay.open()
    last = done.add(b"x")
    done.finish()
    kept = running.add(b"y")
    assert replay.find(last.id) == (done, 1)
    now[0] = LIMITS.replay_s + 1
    replay.prune()
    assert replay.find(last.id) is None
    assert replay.find(kept.id) == (running, 1)
    assert running.after(0) == []


async def test_a_question_waits_for_a_client_that_lost_its_only_stream(http: Http, gateway: Gateway) -> None:
    session_id = await http.initialize(capabilities={"elicitation": {}})
    async with streamed(http, "POST", ELICIT, Mcp_Session_Id=session_id) as following:
        question = [await following(), await following()][1]
    session = gateway.sessions.get(session_id, operator(gateway))
    assert session is not None
    (call,) = session.calls.values()
    call.outlet.watch()
    await until(lambda: call.outlet.gone)
    assert not call.outlet.reachable
    session.announce("notifications/tools/list_changed")
    async with streamed(http, "GET", Mcp_Session_Id=session_id, Last_Event_ID=question["id"]) as following:
        assert (await following())["data"]["method"] == "notifications/tools/list_changed"
        assert call.outlet.reachable
        await accept(http, session_id, question["data"])
        assert (await following())["data"]["id"] == 7
