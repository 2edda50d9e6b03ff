"""Features of servers elsewhere, for clients of either era, over each transport: a gateway in front of another one.

The far gateway serves a small server of the handshake era; ours reaches it over Streamable HTTP of either era, or over
legacy SSE.  What a server there could say wrongly is in ``test_remote_http.py`` and ``test_remote_sse.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.gateway import Gateway
from harbourmaster.core.settings import Settings
from tests.gateway import backend
from tests.gateway.elsewhere import Elsewhere, Reply, Request, greeting, remote, result, said, serving_remotes
from tests.gateway.harness import World, enveloped, locked, rpc, tool_call, until
from tests.gateway.test_matrix import FULL, Cell, Handshake, Modern, Person, hearing, routing

TRANSPORTS = ("http-handshake", "http-modern", "sse")


@pytest.fixture(params=["handshake-client", "modern-client"])
def client_era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Far(Cell):
    """A cell whose server is behind another gateway, ``far``."""

    far: Gateway


@pytest.fixture
async def cell(settings: Settings, client_era: str, transport: str) -> AsyncIterator[Far]:
    modern = transport == "http-modern"
    listing = backend.listing("alpha", capabilities=backend.MODERN_CAPABILITIES)
    world = World({"alpha": locked("alpha", listing)})
    there = settings.model_copy(update={"home": settings.home / "far"})
    bearer = {"Authorization": "Bearer ${TOKEN}"}
    async with serving_remotes(there, world=world, sse=True) as (far, far_http):
        said = backend.listing("alpha", modern=modern, capabilities=backend.MODERN_CAPABILITIES)
        place, kind = ("sse", "sse") if transport == "sse" else ("mcp", "streamable-http")
        line = remote(f"http://127.0.0.1:{far_http.port}/{place}", said, transport=kind, headers=bearer)
        async with serving_remotes(settings, line, token=far_http.token) as (near, http):
            handshake = client_era == "handshake-client"
            client = Handshake(http, await http.initialize(capabilities=FULL)) if handshake else Modern(http)
            found = Far(client, modern, world, near)
            found.far = far
            yield found


async def test_progress_and_log_messages_come_from_a_server_elsewhere(cell: Far) -> None:
    said = await cell.client.call("progress", {}, progressToken="mine")
    steps = [m["params"] for m in said.told if m["method"] == "notifications/progress"]
    assert [(s["progressToken"], s["progress"], s["x-extra"]) for s in steps] == [
        ("mine", 1, "kept"),
        ("mine", 2, "kept"),
    ]
    level = {"io.modelcontextprotocol/logLevel": "warning"} if cell.client.modern else {}
    if not cell.client.modern:
        await cell.client.ask("logging/setLevel", {"level": "warning"})
    said = await cell.client.call("log", {"n": 1}, **level)
    logged = [m["params"] for m in said.told if m["method"] == "notifications/message"]
    assert {"level": "warning", "data": {"n": 1}} in logged


async def test_a_server_elsewhere_asks_the_client(cell: Far) -> None:
    reply = {"role": "assistant", "content": {"type": "text", "text": "sure"}, "model": "m", "x-made-up": 1}
    said = await cell.client.call("sample", {}, lambda question: {"result": reply})
    assert [q["method"] for q in said.asked] == ["sampling/createMessage"]
    assert "x-made-up" in said.text
    answer = {"action": "accept", "content": {"name": "Ada"}}
    said = await cell.client.call("elicit", {}, lambda question: {"result": answer})
    assert said.asked[0]["params"]["requestedSchema"]["properties"]["name"]["default"] == "Ada"
    assert '"name": "Ada"' in said.text
    roots = {"roots": [{"uri": "file:///work", "name": "work"}]}
    assert "file:///work" in (await cell.client.call("roots", {}, lambda question: {"result": roots})).text


async def test_content_of_every_kind_comes_from_a_server_elsewhere(cell: Far) -> None:
    result = (await cell.client.call("media")).result
    assert (result["content"], result["structuredContent"]) == (backend.MEDIA, {"n": 1, "x-made-up": [None]})
    assert (await cell.client.ask("resources/read", {"uri": "note://one"})).result["contents"][0]["text"]
    got = await cell.client.ask("prompts/get", {"name": "greet", "arguments": {"who": "Ada"}})
    assert got.result["messages"][0]["content"]["text"] == "greet Ada"
    asked = {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": "A"}}
    assert (await cell.client.ask("completion/complete", asked)).result["completion"]["values"] == ["greet"]


async def test_changes_at_a_server_elsewhere_are_told(cell: Far) -> None:
    await cell.client.call("echo")
    async with hearing(cell, ["note://one"]) as messages:
        touched = await cell.client.call("touch", {"uri": "note://one"})
        beside = [m["method"] for m in touched.told]
        wanted = {"notifications/resources/updated", "notifications/tools/list_changed"} - set(beside)
        while wanted:
            wanted.discard((await anext(messages))["method"])


async def test_a_client_that_vanishes_in_mid_call_leaves_nothing_elsewhere(cell: Far) -> None:
    await cell.client.call("echo")
    params = tool_call("hang")
    if isinstance(cell.client, Modern):
        async with cell.client.posting(rpc("tools/call", enveloped(params, FULL), 5), **routing("tools/call", params)):
            await until(lambda: waiting(cell.far) == 1, "the call, there")
    else:
        async with cell.client.posting(rpc("tools/call", params, 5), Mcp_Session_Id=cell.client.session):
            await until(lambda: waiting(cell.far) == 1, "the call, there")
        await cell.client.http.request("DELETE", Mcp_Session_Id=cell.client.session)
    await until(lambda: waiting(cell.far) == 0, "the end of the call, there")
    await until(lambda: not any(lease.upstream.pending for lease in cell.gateway.leases), "its end here")


def waiting(far: Gateway) -> int:
    return sum(len(lease.upstream.pending) for lease in far.leases)


async def test_an_answer_that_is_given_twice_counts_once(settings: Settings) -> None:
    async def handler(request: Request, reply: Reply) -> None:
        texts = [[{"type": "text", "text": text}] for text in ("first", "second")]
        await reply.events(*(said(result(request, content=content)) for content in texts))
        reply.cut()

    async with (
        Elsewhere(greeting(handler)).running() as server,
        serving_remotes(settings, remote(server.url)) as (_, http),
    ):
        session = await http.initialize()
        for number in (1, 2):
            answer = await http.call(session, "tools/call", tool_call("echo"), number)
            assert answer["result"]["content"][0]["text"] == "first"


# -- what a client of either era makes of a handshake server's streams and sessions


@contextlib.asynccontextmanager
async def scripted(settings: Settings, client_era: str, script: Any) -> AsyncIterator[tuple[Elsewhere, Person]]:
    async with (
        Elsewhere(greeting(script)).running() as server,
        serving_remotes(settings, remote(server.url)) as (_, http),
    ):
        handshake = client_era == "handshake-client"
        yield server, Handshake(http, await http.initialize()) if handshake else Modern(http)


async def test_a_stream_that_breaks_there_is_taken_up_for_either_client(settings: Settings, client_era: str) -> None:
    held: list[Any] = []

    async def script(request: Request, reply: Reply) -> None:
        if request.method == "GET":
            await reply.events(said(held[0], "e2"))
        else:
            held.append(result(request, content=[{"type": "text", "text": "whole"}]))
            await reply.events(said(None, "e1", retry=1))
        reply.cut()

    async with scripted(settings, client_era, script) as (server, client):
        assert (await client.call("echo")).text == "whole"
        resumed = [r.headers["last-event-id"] for r in server.seen if "last-event-id" in r.headers]
        assert resumed == ["e1"]


async def test_a_session_that_is_forgotten_there_is_an_error_to_either_client(
    settings: Settings, client_era: str
) -> None:
    async def script(request: Request, reply: Reply) -> None:
        if len(server.asked("initialize")) == 1:
            await reply.send(404)
        else:
            await reply.send(200, result(request, content=[{"type": "text", "text": "again"}]))

    async with scripted(settings, client_era, script) as (server, client):
        assert (await client.call("echo")).reply["error"]["data"]["code"] == "remote.session_lost"
        assert (await client.call("echo")).text == "again"
