"""Modern clients (2026-07-28) over HTTP, bytes on the wire."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.gateway import Gateway
from harbourmaster.core.settings import Settings
from tests.gateway import backend
from tests.gateway.harness import Http, World, enveloped, locked, operator, rpc, serving, tool_call, until

SERVER_INFO = "io.modelcontextprotocol/serverInfo"


def text(reply: Any) -> str:
    return str(reply["result"]["content"][0]["text"])


async def test_discover_and_lists_need_no_sandbox_and_say_how_long_they_hold(http: Http, world: World) -> None:
    found = (await http.modern("server/discover")).json["result"]
    assert found["supportedVersions"] == ["2026-07-28"]
    assert found["resultType"] == "complete"
    assert found["_meta"][SERVER_INFO]["name"] == "harbourmaster"
    tools = (await http.modern("tools/list")).json["result"]
    assert tools["cacheScope"] == "private"
    assert tools["ttlMs"] > 0
    assert tools["tools"][0]["name"] == "echo"
    assert world.started == []


async def test_a_call_to_a_handshake_server_comes_back_as_a_modern_result(http: Http) -> None:
    response = await http.modern("tools/call", tool_call("echo", {"a": 1}, _meta={"x-mine": 2}))
    result = response.json["result"]
    assert result["resultType"] == "complete"
    assert result["_meta"][SERVER_INFO]["name"] == "alpha"
    assert result["x-unknown"] == {"also": "kept"}
    assert result["_meta"]["x-kept"] == {"x-mine": 2}, "the envelope is the modern wire's own"
    assert "mcp-session-id" not in response.headers


async def test_reading_a_resource_says_that_it_may_not_be_kept(http: Http) -> None:
    result = (await http.modern("resources/read", {"uri": "note://one"})).json["result"]
    assert (result["ttlMs"], result["cacheScope"]) == (0, "private")


async def test_calls_of_one_client_share_its_sandbox_and_another_client_has_its_own(http: Http) -> None:
    assert text((await http.modern("tools/call", tool_call("counter"))).json) == "1"
    assert text((await http.modern("tools/call", tool_call("counter"))).json) == "2"
    other = tool_call("counter", _meta={"io.modelcontextprotocol/clientInfo": {"name": "other", "version": "1"}})
    assert text((await http.modern("tools/call", other)).json) == "1"


async def test_an_idle_sandbox_ends_and_the_client_is_forgotten(settings: Settings, world: World) -> None:
    brief = settings.model_copy(update={"sandbox_idle_s": 0.05})
    async with serving(brief, world) as (gateway, http):
        await http.modern("tools/call", tool_call("counter"))
        assert world.running == 1
        await until(lambda: world.running == 0 and gateway.sandboxes == 0)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"MCP-Protocol-Version": "2027-01-01"}, -32020),
        ({"MCP-Protocol-Version": None}, -32020),
        ({"MCP-Protocol-Version": "2025-11-25"}, -32020),
        ({"Mcp-Method": "tools/list"}, -32020),
        ({"Mcp-Method": None}, -32020),
        ({"Mcp-Name": "counter"}, -32020),
        ({"Mcp-Name": None}, -32020),
        ({"Mcp-Name": "=?base64?!?="}, -32020),
    ],
)
async def test_headers_that_disagree_with_the_body_are_refused(http: Http, changes: Any, code: int) -> None:
    response = await http.modern("tools/call", tool_call("echo"), **changes)
    assert (response.status, response.json["error"]["code"]) == (400, code)
    assert response.json["id"] == 1


async def test_a_name_header_may_be_encoded(http: Http) -> None:
    response = await http.modern("tools/call", tool_call("echo"), **{"Mcp-Name": "=?base64?ZWNobw==?="})
    assert response.status == 200


async def test_blanks_around_a_header_are_not_part_of_it(http: Http) -> None:
    response = await http.modern(
        "tools/call", tool_call("echo"), **{"Mcp-Name": "  echo \t", "Mcp-Method": "tools/call "}
    )
    assert response.status == 200
    wanted = tool_call("region", {"where": "north"})
    assert (await http.modern("tools/call", wanted, **{"Mcp-Param-Where": " north  "})).status == 200


async def test_a_repeated_routing_header_is_refused(http: Http) -> None:
    body = rpc("tools/list", enveloped({}))
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
    response = await http.request(body=body, lines=("Mcp-Method: tools/list",), **headers)
    assert (response.status, response.json["error"]["code"]) == (400, -32020)


async def test_an_unknown_revision_is_told_which_we_speak(http: Http) -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": "2027-01-01"}
    response = await http.modern("tools/list", {"_meta": meta}, **{"MCP-Protocol-Version": "2027-01-01"})
    assert (response.status, response.json["error"]["code"]) == (400, -32022)
    assert response.json["error"]["data"] == {"supported": ["2026-07-28"], "requested": "2027-01-01"}


async def test_an_incomplete_envelope_is_named(http: Http) -> None:
    body = rpc("tools/list", {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}})
    response = await http.request(body=body, **{"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"})
    assert (response.status, response.json["error"]["code"]) == (400, -32602)
    assert "clientCapabilities" in response.json["error"]["message"]


async def test_what_the_revision_dropped_is_not_found(http: Http) -> None:
    for method in ("ping", "initialize", "logging/setLevel", "resources/subscribe"):
        response = await http.modern(method)
        assert (response.status, response.json["error"]["code"]) == (404, -32601)


async def test_get_and_delete_are_not_for_modern_clients(http: Http) -> None:
    for method in ("GET", "DELETE"):
        response = await http.request(method, **{"MCP-Protocol-Version": "2026-07-28"})
        assert (response.status, response.headers["allow"]) == (405, "POST")


async def test_a_notification_is_acknowledged_and_a_response_refused(http: Http) -> None:
    version = {"MCP-Protocol-Version": "2026-07-28"}
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert (await http.request(body=note, **version)).status == 202
    assert (await http.request(body={"jsonrpc": "2.0", "id": 1, "result": {}}, **version)).status == 400


async def test_progress_and_the_logs_one_asked_for_come_first(http: Http) -> None:
    params = tool_call("progress", _meta={"progressToken": "p"})
    *progress, last = (await http.modern("tools/call", params)).events
    assert [m["params"]["progressToken"] for m in progress] == ["p", "p"]
    assert last["result"]["resultType"] == "complete"
    params = tool_call("log", _meta={"io.modelcontextprotocol/logLevel": "warning"})
    only, last = (await http.modern("tools/call", params)).events
    assert only["params"]["level"] == "warning"
    assert text((await http.modern("tools/call", tool_call("log"))).json) == "done", "no logs without asking"


async def test_closing_the_connection_cancels_the_call(http: Http, world: World) -> None:
    await http.modern("tools/call", tool_call("counter"))
    body = rpc("tools/call", enveloped(tool_call("hang")))
    routing = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "hang"}
    async with http.events("POST", body, **routing):
        await asyncio.sleep(0)
    await until(lambda: any(r["outcome"] == "cancelled" for r in world.calls()))
    said = json.loads(text((await http.modern("tools/call", tool_call("last_cancelled"))).json))
    assert len(said) == 1
    assert world.running == 1


async def test_param_headers_are_checked_where_the_tool_asks_for_them(http: Http) -> None:
    params = tool_call("region", {"where": "north"})
    assert text((await http.modern("tools/call", params, **{"Mcp-Param-Where": "north"})).json) == "north"
    for wrong in ({"Mcp-Param-Where": "south"}, {}):
        response = await http.modern("tools/call", params, **wrong)
        assert (response.status, response.json["error"]["code"]) == (400, -32020)


# -- multi-round-trip: a handshake server asks a modern client


async def ask(http: Http, name: str, capabilities: Any, **more: Any) -> Any:
    meta = {"io.modelcontextprotocol/clientCapabilities": capabilities}
    return (await http.modern("tools/call", tool_call(name, _meta=meta, **more))).json


@pytest.mark.parametrize(
    ("name", "capability", "method"),
    [
        ("elicit", "elicitation", "elicitation/create"),
        ("sample", "sampling", "sampling/createMessage"),
        ("roots", "roots", "roots/list"),
    ],
)
async def test_a_server_s_request_becomes_an_input_required_result(
    http: Http, name: str, capability: str, method: str
) -> None:
    first = (await ask(http, name, {capability: {}}))["result"]
    assert first["resultType"] == "input_required"
    ((key, question),) = first["inputRequests"].items()
    assert question["method"] == method
    answers = {key: {"said": "yes", "x-made-up": True}}
    second = await ask(http, name, {capability: {}}, inputResponses=answers, requestState=first["requestState"])
    assert json.loads(text(second)) == {"said": "yes", "x-made-up": True}
    again = await ask(http, name, {capability: {}}, inputResponses=answers, requestState=first["requestState"])
    assert again["error"]["data"]["code"] == "gateway.state_lost", "a state continues its call once"


async def test_a_continuation_without_the_answer_is_asked_again(http: Http) -> None:
    first = (await ask(http, "elicit", {"elicitation": {}}))["result"]
    again = (await ask(http, "elicit", {"elicitation": {}}, requestState=first["requestState"]))["result"]
    assert again["inputRequests"] == first["inputRequests"]
    (key,) = again["inputRequests"]
    last = await ask(
        http, "elicit", {"elicitation": {}}, requestState=again["requestState"], inputResponses={key: {"action": "x"}}
    )
    assert json.loads(text(last)) == {"action": "x"}


async def test_a_state_continues_only_the_call_it_was_given_for(http: Http) -> None:
    state = (await ask(http, "elicit", {"elicitation": {}}))["result"]["requestState"]
    wrong = await ask(http, "roots", {"roots": {}}, requestState=state, inputResponses={})
    assert wrong["error"]["data"]["code"] == "gateway.state_lost"


async def test_a_client_without_the_capability_is_not_asked(http: Http) -> None:
    assert json.loads(text(await ask(http, "elicit", {})))["code"] == -32601


# -- subscriptions/listen


async def test_a_listener_hears_what_it_asked_for_and_is_told_when_it_ends(http: Http, gateway: Gateway) -> None:
    wanted = {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["note://one", "nowhere://x"]}}
    body = rpc("subscriptions/listen", enveloped(wanted), "sub")
    routing = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    async with http.events("POST", body, **routing) as following:
        ack = await following()
        assert ack["method"] == "notifications/subscriptions/acknowledged"
        assert ack["params"]["notifications"]["toolsListChanged"] is True
        assert "note://one" in ack["params"]["notifications"]["resourceSubscriptions"]
        await http.modern("tools/call", tool_call("touch"))
        await http.modern("tools/call", tool_call("touch", {"uri": "note://two"}))
        heard = [await following() for _ in range(3)]
        assert [m["method"].removeprefix("notifications/") for m in heard] == [
            "resources/updated",
            "tools/list_changed",
            "tools/list_changed",
        ]
        assert all(m["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "sub" for m in heard)
        gateway.end_streams()
        assert (await following())["id"] == "sub"


async def test_a_listener_that_leaves_is_forgotten(http: Http, gateway: Gateway, world: World) -> None:
    body = rpc("subscriptions/listen", enveloped({"notifications": {"toolsListChanged": True}}))
    routing = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    async with http.events("POST", body, **routing) as following:
        await following()
        client = gateway.modern_client(operator(gateway), {"name": "raw"})
        assert len(client.listeners) == 1
    await until(lambda: not client.listeners)
    assert (await http.request(body=body, Accept="application/json", **routing)).status == 406


# -- a modern server


@pytest.fixture
def modern_world() -> World:
    return World({"alpha": locked("alpha", backend.listing("alpha", modern=True))})


async def test_a_handshake_client_reaches_a_modern_server(settings: Settings, modern_world: World) -> None:
    async with serving(settings, modern_world) as (_, http):
        session = await http.initialize(capabilities={"roots": {}})
        reply = await http.call(session, "tools/call", tool_call("echo", {"a": 1}, _meta={"x-mine": 2}))
        seen = reply["result"]["_meta"]["x-kept"]
        assert seen["x-mine"] == 2
        assert seen["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
        assert seen["io.modelcontextprotocol/clientCapabilities"] == {"roots": {}}
        assert "resultType" not in reply["result"]


async def test_a_modern_server_s_questions_reach_a_handshake_client(settings: Settings, modern_world: World) -> None:
    async with serving(settings, modern_world) as (_, http):
        session = await http.initialize(capabilities={"elicitation": {}})
        async with http.events("POST", rpc("tools/call", tool_call("elicit")), Mcp_Session_Id=session) as following:
            question = await following()
            assert question["method"] == "elicitation/create"
            reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}}
            await http.request(body=reply, Mcp_Session_Id=session)
            assert json.loads(text(await following())) == {"action": "accept", "state": "s1"}
        refused = await http.call(await http.initialize(), "tools/call", tool_call("elicit"))
        assert refused["error"]["data"]["code"] == "gateway.no_channel"


async def test_modern_to_modern_passes_untouched(settings: Settings, modern_world: World) -> None:
    async with serving(settings, modern_world) as (_, http):
        first = (await ask(http, "elicit", {"elicitation": {}}))["result"]
        assert first["requestState"] == "s1"
        second = await ask(http, "elicit", {}, requestState="s1", inputResponses={"k": {"action": "accept"}})
        assert json.loads(text(second)) == {"action": "accept", "state": "s1"}


async def test_a_modern_server_is_asked_to_tell_what_a_modern_client_listens_for(
    settings: Settings, modern_world: World
) -> None:
    async with serving(settings, modern_world) as (_, http):
        wanted = {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["note://one"]}}
        body = rpc("subscriptions/listen", enveloped(wanted), "sub")
        routing = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
        async with http.events("POST", body, **routing) as following:
            ack = await following()
            assert ack["params"]["notifications"]["resourceSubscriptions"] == ["note://one"]
            await http.modern("tools/call", tool_call("touch"))
            heard = [await following() for _ in range(2)]
            assert {m["method"] for m in heard} == {
                "notifications/resources/updated",
                "notifications/tools/list_changed",
            }
            assert all(m["params"]["_meta"] == {"io.modelcontextprotocol/subscriptionId": "sub"} for m in heard)
        left = await unwatched(http)
        assert left == [{"toolsListChanged": True}]


async def unwatched(http: Http) -> Any:
    """What the server still has to tell, once it no longer has to tell of resources."""
    for _ in range(200):
        streams = json.loads(text((await http.modern("tools/call", tool_call("streams"))).json))
        if not any("resourceSubscriptions" in wanted for wanted in streams):
            return streams
    raise AssertionError(f"the server still tells of {streams}")


async def test_a_modern_server_tells_a_handshake_client_as_one_of_its_era_would(
    settings: Settings, modern_world: World
) -> None:
    async with serving(settings, modern_world) as (_, http):
        session = await http.initialize()
        async with http.events("GET", Mcp_Session_Id=session) as following:
            assert (await http.call(session, "resources/subscribe", {"uri": "note://one"}))["result"] == {}
            await http.call(session, "tools/call", tool_call("touch"))
            assert [await following() for _ in range(2)] == [
                {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {}},
                {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "note://one"}},
            ]
            assert (await http.call(session, "resources/unsubscribe", {"uri": "note://one"}))["result"] == {}
            streams = await http.call(session, "tools/call", tool_call("streams"))
            assert json.loads(text(streams)) == [{"toolsListChanged": True}]


async def test_a_resource_that_a_modern_server_does_not_tell_of_cannot_be_subscribed_to(
    settings: Settings, modern_world: World
) -> None:
    async with serving(settings, modern_world) as (_, http):
        reply = await http.call(await http.initialize(), "resources/subscribe", {"uri": "note://by/nobody"})
        assert reply["error"]["code"] == -32601
        wanted = {"notifications": {"resourceSubscriptions": ["note://by/nobody"]}}
        body = rpc("subscriptions/listen", enveloped(wanted))
        routing = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
        async with http.events("POST", body, **routing) as following:
            assert (await following())["params"]["notifications"] == {}


async def test_a_resource_that_nobody_has_is_an_invalid_parameter_to_a_modern_client(
    settings: Settings, world: World, http: Http
) -> None:
    refused = (await http.modern("resources/read", {"uri": "note://gone"})).json["error"]
    assert (refused["code"], refused["data"]) == (-32602, {"uri": "note://gone"})
    session = await http.initialize()
    assert (await http.call(session, "resources/read", {"uri": "note://gone"}))["error"]["code"] == -32002
    two = World({"alpha": locked("alpha"), "beta": locked("beta")})
    async with serving(settings, two) as (_, crowded):  # nobody can be asked: the answer is the gateway's own
        own = (await crowded.modern("resources/read", {"uri": "other://x"})).json["error"]
        assert (own["code"], own["data"]["uri"]) == (-32602, "other://x")


async def test_what_a_handshake_server_asks_at_once_is_asked_in_one_round(http: Http) -> None:
    asked = (await ask(http, "both", {"elicitation": {}, "roots": {}}))["result"]
    assert sorted(q["method"] for q in asked["inputRequests"].values()) == ["elicitation/create", "roots/list"]
