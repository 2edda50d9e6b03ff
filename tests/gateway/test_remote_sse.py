"""Legacy SSE towards servers elsewhere: our own edge as the server, and servers that break the rules."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.gateway import Gateway
from harbourmaster.core.settings import Settings
from tests.gateway.backend import listing
from tests.gateway.elsewhere import LISTING, Elsewhere, Reply, Request, remote, result, said, serving_remotes
from tests.gateway.harness import Http, World, tool_call, until

BEARER = {"Authorization": "Bearer ${TOKEN}"}


@contextlib.asynccontextmanager
async def chained(settings: Settings, world: World) -> AsyncIterator[tuple[Gateway, Gateway, Http]]:
    """(the far gateway, ours, a way to talk to ours): ours reaches the far one's servers over SSE."""
    far_settings = settings.model_copy(update={"home": settings.home / "far"})
    async with serving_remotes(far_settings, world=world, sse=True) as (far, far_http):
        line = remote(f"http://127.0.0.1:{far_http.port}/sse", listing("alpha"), transport="sse", headers=BEARER)
        async with serving_remotes(settings, line, token=far_http.token) as (near, http):
            yield far, near, http


async def test_calls_questions_progress_and_changes_cross_an_sse_server(settings: Settings, world: World) -> None:
    async with chained(settings, world) as (_, _, http):
        session = await http.initialize(capabilities={"elicitation": {}})
        answer = await http.call(session, "tools/call", tool_call("echo", {"a": 1}))
        assert answer["result"]["structuredContent"] == {"a": 1}
        said = await http.call(session, "tools/call", tool_call("progress", _meta={"progressToken": "p"}), 2)
        assert [m["params"]["progress"] for m in said[:-1]] == [1, 2]
        assert said[0]["params"]["progressToken"] == "p"
        async with http.events(body=_rpc("tools/call", tool_call("elicit"), 3), Mcp_Session_Id=session) as following:
            asked = await following()
            assert asked["method"] == "elicitation/create"
            reply = {"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept", "content": {"name": "Ada"}}}
            assert (await http.request(body=reply, Mcp_Session_Id=session)).status == 202
            assert "Ada" in (await following())["result"]["content"][0]["text"]


def _rpc(method: str, params: Any, request_id: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


async def test_leaving_closes_the_stream_and_with_it_the_session_there(settings: Settings, world: World) -> None:
    async with chained(settings, world) as (far, near, http):
        session = await http.initialize()
        await http.call(session, "tools/call", tool_call("echo"))
        assert len(far.sessions) == 1
        await http.request("DELETE", Mcp_Session_Id=session)
        await until(lambda: len(far.sessions) == 0 and near.sandboxes == 0, "the end of the session there")


async def test_a_stream_that_ends_fails_what_waits_and_the_next_call_opens_another(
    settings: Settings, world: World
) -> None:
    async with chained(settings, world) as (far, _, http):
        session = await http.initialize()
        waiting = asyncio.create_task(http.call(session, "tools/call", tool_call("hang")))
        await until(lambda: any(s.calls for s in far.sessions), "the call")
        for there in list(far.sessions):
            there.stream.close()
        answer = await waiting
        assert answer["error"]["data"]["code"] == "remote.session_lost"
        answers = [await http.call(session, "tools/call", tool_call("counter"), n) for n in (2, 3)]
        assert answers[-1]["result"]["content"][0]["text"] in ("1", "2")


async def test_a_server_that_refuses_the_token_is_an_error_that_says_what_to_do(
    settings: Settings, world: World
) -> None:
    far_settings = settings.model_copy(update={"home": settings.home / "far"})
    async with serving_remotes(far_settings, world=world, sse=True) as (_, far_http):
        line = remote(f"http://127.0.0.1:{far_http.port}/sse", transport="sse", headers=BEARER)
        async with serving_remotes(settings, line, token="nobody") as (_, http):
            answer = await http.call(await http.initialize(), "tools/call", tool_call("echo"))
            assert answer["error"]["data"]["code"] == "remote.login_required"


@pytest.mark.parametrize(
    ("endpoint", "code"),
    [
        ("http://evil.example/messages", "remote.insecure"),
        ("https://evil.example/messages", "remote.redirected"),
        ("//127.0.0.1:1/messages", "remote.redirected"),
        ("file:///etc/passwd", "remote.invalid"),
    ],
)
async def test_messages_go_to_the_streams_own_origin_and_nowhere_else(
    settings: Settings, endpoint: str, code: str
) -> None:
    async def script(request: Request, reply: Reply) -> None:
        await reply.events(f"event: endpoint\ndata: {endpoint}\n\n".encode())
        await asyncio.Event().wait()

    async with (
        Elsewhere(script).running() as server,
        serving_remotes(settings, remote(server.url, transport="sse")) as (_, http),
    ):
        answer = await http.call(await http.initialize(), "tools/call", tool_call("echo"))
        assert answer["error"]["data"]["code"] == code
        assert all(r.method == "GET" for r in server.seen)


async def test_an_old_server_whose_answers_come_before_its_accepts_is_understood(settings: Settings) -> None:
    streams: list[Reply] = []

    async def script(request: Request, reply: Reply) -> None:
        if request.method == "GET":
            streams.append(reply)
            await reply.events(b"event: endpoint\r\ndata: /post?s=1\r\n\r\n")
            await asyncio.Event().wait()
        if request.rpc == "initialize":
            await streams[-1].more(said(result(request, protocolVersion="2024-11-05", capabilities={"tools": {}})))
        elif request.rpc == "tools/list":
            await streams[-1].more(said(result(request, tools=LISTING["tools"])))
        elif request.rpc == "tools/call":
            await streams[-1].more(said(result(request, content=[])))
        await reply.send(202, b"Accepted", "text/plain")

    async with (
        Elsewhere(script).running() as server,
        serving_remotes(settings, remote(server.url, transport="sse")) as (_, http),
    ):
        answer = await http.call(await http.initialize(), "tools/call", tool_call("echo"))
        assert answer["result"]["content"] == []
        assert {r.path for r in server.seen if r.method == "POST"} == {"/post?s=1"}
