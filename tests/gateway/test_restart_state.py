"""The gateway is restarted between two rounds of a conversation: what goes on, and what ends in so many words."""

from __future__ import annotations

from typing import Any

from harbourmaster.core.settings import Settings
from tests.gateway import backend
from tests.gateway.harness import Http, World, enveloped, locked, rpc, serving, tool_call

ABLE = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
ROUTING = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call"}
YES = {"action": "accept", "content": {"name": "Ada"}}


def world(*, modern: bool) -> World:
    return World({"alpha": locked("alpha", backend.listing("alpha", modern=modern))})


async def ask(http: Http, params: dict[str, Any]) -> Any:
    body = rpc("tools/call", enveloped(params, ABLE))
    return (await http.request(body=body, **ROUTING, **{"Mcp-Name": params["name"]})).json


def answered(first: Any) -> dict[str, Any]:
    """The second round of the call whose first answer is ``first``."""
    given = dict.fromkeys(first["inputRequests"], YES)
    return tool_call("elicit", requestState=first["requestState"], inputResponses=given)


async def test_a_handshake_server_s_question_is_lost_with_the_gateway_and_the_client_is_told_so(
    settings: Settings,
) -> None:
    """Its server is gone as well: the call waited in its sandbox."""
    async with serving(settings, world(modern=False)) as (_, http):
        first = (await ask(http, tool_call("elicit")))["result"]
    async with serving(settings, world(modern=False)) as (gateway, http):
        error = (await ask(http, answered(first)))["error"]
        assert error["data"] == {"code": "gateway.state_lost", "remedy": "make the call again from the start"}
        assert "restarted" in error["message"]
        assert gateway.sandboxes == 0, "nothing was done twice"
        again = (await ask(http, tool_call("elicit")))["result"]
        assert "Ada" in (await ask(http, answered(again)))["result"]["content"][0]["text"]


async def test_a_modern_server_s_state_outlives_the_gateway(settings: Settings) -> None:
    """It is the server's own, and holds all that it needs."""
    async with serving(settings, world(modern=True)) as (_, http):
        first = (await ask(http, tool_call("elicit")))["result"]
    async with serving(settings, world(modern=True)) as (_, http):
        text = (await ask(http, answered(first)))["result"]["content"][0]["text"]
        assert ("Ada" in text, '"state": "s1"' in text) == (True, True)


async def test_the_state_of_a_parked_call_tells_nothing_and_fits_nothing_but_its_call(settings: Settings) -> None:
    async with serving(settings, world(modern=False)) as (_, http):
        states = set()
        for _ in range(3):
            first = (await ask(http, tool_call("elicit")))["result"]
            states.add(first["requestState"])
            altered = answered(first)
            altered["requestState"] = altered["requestState"][:-1] + "~"
            assert (await ask(http, altered))["error"]["data"]["code"] == "gateway.state_lost"
            other = {**answered(first), "arguments": {"another": 1}}
            assert (await ask(http, other))["error"]["data"]["code"] == "gateway.state_lost"
        assert len(states) == 3
        assert all(len(state) == 43 for state in states)  # 256 random bits: nothing is in it that could be read or made


async def test_a_session_of_before_the_restart_is_unknown_and_its_streams_with_it(settings: Settings) -> None:
    async with serving(settings, world(modern=False)) as (_, http):
        session = await http.initialize()
    async with serving(settings, world(modern=False)) as (_, http):
        for method, body in (("POST", rpc("ping")), ("GET", None), ("DELETE", None)):
            said = {"Mcp-Session-Id": session, "Last-Event-ID": "1-1", "Accept": "application/json, text/event-stream"}
            response = await http.request(method, body=body, **said)
            assert (response.status, response.json["error"]["data"]["code"]) == (404, "session.unknown")
