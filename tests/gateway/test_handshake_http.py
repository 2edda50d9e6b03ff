"""Handshake clients over Streamable HTTP, bytes on the wire."""

from __future__ import annotations

import json

from tests.gateway.harness import Http, World, rpc, tool_call


def text(reply: dict) -> str:
    return reply["result"]["content"][0]["text"]


async def test_a_tool_is_called_and_its_answer_comes_back_as_plain_json(http: Http) -> None:
    session = await http.initialize()
    reply = await http.call(session, "tools/call", tool_call("echo", {"a": 1}), request_id="my-id")
    assert reply["id"] == "my-id"
    assert json.loads(text(reply)) == {"a": 1}


async def test_initialize_lists_and_ping_start_no_sandbox(http: Http, world: World) -> None:
    session = await http.initialize()
    tools = await http.call(session, "tools/list")
    assert {t["name"] for t in tools["result"]["tools"]} >= {"echo", "counter"}
    assert (await http.call(session, "prompts/list"))["result"]["prompts"][0]["name"] == "greet"
    assert (await http.call(session, "resources/list"))["result"]["resources"][0]["uri"] == "note://one"
    templates = (await http.call(session, "resources/templates/list"))["result"]["resourceTemplates"]
    assert templates[0]["uriTemplate"] == "note://by/{name}"
    assert (await http.call(session, "ping"))["result"] == {}
    assert world.started == []


async def test_initialize_settles_on_the_client_s_revision_or_our_newest(http: Http) -> None:
    for asked, settled in (("2024-11-05", "2024-11-05"), ("2025-06-18", "2025-06-18"), ("1999-01-01", "2025-11-25")):
        response = await http.request(body=rpc("initialize", {"protocolVersion": asked, "capabilities": {}}))
        assert response.json["result"]["protocolVersion"] == settled
        assert response.json["result"]["instructions"] == "# alpha\n\nUse alpha well."
