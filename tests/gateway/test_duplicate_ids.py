"""An id that is in flight names one call, on every edge.  For Streamable HTTP: ``test_handshake_http``, ``test_attacks``."""

from __future__ import annotations

import json

import pytest

from gateway.gateway import Gateway
from harbourmaster.core.settings import Settings
from tests.gateway.elsewhere import serving_remotes
from tests.gateway.harness import Http, World, enveloped, rpc, tool_call, until
from tests.gateway.test_sse_edge import raw_stream
from tests.gateway.test_stdio import Child, child

__all__ = ["child"]

HELLO = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}}


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_on_stdio_the_second_is_refused_and_the_first_goes_on(child: Child, era: str) -> None:
    await child.begin()
    ask = enveloped if era == "modern" else dict

    def call(name: str, request_id: int) -> dict[str, object]:
        return rpc("tools/call", ask(tool_call(f"alpha__{name}")), request_id)

    child.say(call("counter", 1))
    assert (await child.hear())["id"] == 1
    child.say(call("hang", 7))
    child.say(call("counter", 7))
    refused = await child.hear()
    assert (refused["id"], refused["error"]["code"]) == (7, -32600)
    child.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})
    child.say(call("counter", 8))
    answer = await child.hear()
    assert (answer["id"], answer["result"]["content"][0]["text"]) == (8, "2"), (
        "one of the three counted that should not"
    )


async def test_over_sse_the_second_is_refused_and_the_first_goes_on(settings: Settings, world: World) -> None:
    async with serving_remotes(settings, world=world, sse=True) as (gateway, http), raw_stream(http) as data:
        address = await data()
        await http.request(path=address, body=rpc("initialize", HELLO, 0))
        await data()
        await http.request(path=address, body=rpc("tools/call", tool_call("hang"), 7))
        await until(lambda: in_flight(gateway) == 1, "the call")
        await http.request(path=address, body=rpc("tools/call", tool_call("counter"), 7))
        refused = json.loads(await data())
        assert (refused["id"], refused["error"]["code"]) == (7, -32600)
        assert in_flight(gateway) == 1


def in_flight(gateway: Gateway) -> int:
    return sum(call.upstream is not None for session in gateway.sessions for call in session.calls.values())


async def test_ids_of_two_connections_of_a_modern_client_are_no_duplicates(http: Http) -> None:
    """Each POST is a connection of its own there, and its answer comes on it."""
    async with http.events(
        body=rpc("tools/call", enveloped(tool_call("hang")), 7),
        **{"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "hang"},
    ):
        answer = (await http.modern("tools/call", tool_call("counter"), 7)).json
        assert (answer["id"], answer["result"]["content"][0]["text"]) == (7, "1")
