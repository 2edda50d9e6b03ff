"""The edge for old clients: the SDK's own SSE client, and raw requests it would not make."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.sse import sse_client

from gateway.gateway import Gateway
from harbourmaster.core.settings import Settings
from tests.gateway.elsewhere import serving_remotes
from tests.gateway.harness import Http, World, rpc, tool_call, until
from tests.gateway.test_sdk_clients import elicited, rooted, sampled, text


@pytest.fixture
async def old(settings: Settings, world: World) -> AsyncIterator[tuple[Gateway, Http]]:
    async with serving_remotes(settings, world=world, sse=True) as pair:
        yield pair


@contextlib.asynccontextmanager
async def sdk_session(http: Http) -> AsyncIterator[ClientSession]:
    headers = {"Authorization": f"Bearer {http.token}"}
    async with (
        sse_client(f"http://127.0.0.1:{http.port}/sse", headers=headers) as (read, write),
        ClientSession(
            read, write, elicitation_callback=elicited, sampling_callback=sampled, list_roots_callback=rooted
        ) as session,
    ):
        await session.initialize()
        yield session


@contextlib.asynccontextmanager
async def raw_stream(http: Http, path: str = "/sse", **changes: str | None) -> AsyncIterator[Any]:
    head = [
        f"GET {path} HTTP/1.1",
        *(f"{k}: {v}" for k, v in http.headers(Accept="text/event-stream", **changes).items()),
    ]
    reader, writer = await http.open("\r\n".join(head) + "\r\n\r\n")

    async def data() -> str:
        while not (line := await reader.readline()).startswith(b"data: "):
            assert line, "the stream ended"
        return line[6:].strip().decode()

    try:
        yield data
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_an_old_client_does_everything_over_sse(old: tuple[Gateway, Http]) -> None:
    async with sdk_session(old[1]) as client:
        assert "echo" in {t.name for t in (await client.list_tools()).tools}
        assert (await client.call_tool("echo", {"a": 1})).structured_content == {"a": 1}
        assert '"name": "Grace"' in text(await client.call_tool("elicit"))
        assert "sampled" in text(await client.call_tool("sample"))
        assert "file:///tmp" in text(await client.call_tool("roots"))
        assert (await client.read_resource("note://one")).contents[0].uri == "note://one"
        assert len((await client.list_prompts()).prompts) == 1


async def test_the_stream_is_the_session_and_its_end_ends_the_sandboxes(old: tuple[Gateway, Http]) -> None:
    gateway, http = old
    async with sdk_session(http) as client:
        await client.call_tool("echo")
        assert (gateway.sandboxes, len(gateway.sessions)) == (1, 1)
    await until(lambda: len(gateway.sessions) == 0 and gateway.sandboxes == 0, "the end of the session")


async def test_two_clients_on_two_streams_never_see_each_others_state(old: tuple[Gateway, Http]) -> None:
    async with sdk_session(old[1]) as one, sdk_session(old[1]) as other:
        assert [text(await one.call_tool("counter")) for _ in range(2)] == ["1", "2"]
        assert text(await other.call_tool("counter")) == "1"


async def test_the_guard_of_mcp_guards_the_stream_and_the_messages(old: tuple[Gateway, Http]) -> None:
    http = old[1]
    for method, path in (("GET", "/sse"), ("POST", "/messages?session_id=x")):
        asks: dict[str, Any] = {"method": method, "path": path, "body": rpc("ping") if method == "POST" else None}
        assert (await http.request(**asks, Authorization=None)).status == 401
        assert (await http.request(**asks, Authorization="Bearer nobody")).status == 401
        assert (await http.request(**asks, Host="evil.example:80")).status == 421
        assert (await http.request(**asks, Origin="https://evil.example")).status == 403
    assert (await http.request("POST", "/sse", body=rpc("ping"))).status == 405
    assert (await http.request("GET", "/messages")).status == 405
    assert (await http.request("GET", "/sse/nowhere", Accept="text/event-stream")).status == 404


async def test_a_message_needs_a_session_of_its_own_principal(old: tuple[Gateway, Http]) -> None:
    gateway, http = old
    async with raw_stream(http) as data:
        address = await data()
        assert address.startswith("/messages?session_id=")
        assert (await http.request(path="/messages", body=rpc("ping"))).status == 400
        assert (await http.request(path="/messages?session_id=guess", body=rpc("ping"))).status == 404
        other = Http(http.port, gateway.tokens.create("other"))
        assert (await other.request(path=address, body=rpc("ping"))).status == 404
        assert (await http.request(path=address, body=b"{")).status == 400
        assert (await http.request(path=address, body=rpc("tools/list"))).status == 202
        assert json.loads(await data())["error"]["message"] == "Invalid Request: initialize first"


async def test_a_cancelled_call_gets_no_answer_and_the_stream_goes_on(old: tuple[Gateway, Http]) -> None:
    gateway, http = old
    async with raw_stream(http) as data:
        address = await data()
        hello = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}}
        await http.request(path=address, body=rpc("initialize", hello, 0))
        assert json.loads(await data())["result"]["protocolVersion"] == "2024-11-05"
        await http.request(path=address, body=rpc("tools/call", tool_call("hang"), 1))
        session = next(iter(gateway.sessions))
        await until(lambda: any(call.upstream for call in session.calls.values()), "the call")
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        assert (await http.request(path=address, body=cancelled)).status == 202
        await http.request(path=address, body=rpc("tools/call", tool_call("echo"), 2))
        assert json.loads(await data())["id"] == 2


async def test_mcp_is_served_beside_it(old: tuple[Gateway, Http]) -> None:
    session = await old[1].initialize()
    assert "result" in await old[1].call(session, "tools/call", tool_call("echo"))
