"""Handshake clients over Streamable HTTP, bytes on the wire."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway.gateway import Gateway
from tests.gateway.harness import Http, World, operator, rpc, tool_call, until


def text(reply: Any) -> str:
    return str(reply["result"]["content"][0]["text"])


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


async def test_the_server_sees_the_client_s_own_name_capabilities_and_revision(http: Http) -> None:
    session = await http.initialize("2025-06-18", {"roots": {"listChanged": True}})
    hello = json.loads(text(await http.call(session, "tools/call", tool_call("whoami"))))["hello"]
    assert hello["clientInfo"] == {"name": "raw", "version": "0"}
    assert hello["capabilities"] == {"roots": {"listChanged": True}}
    assert hello["protocolVersion"] == "2025-06-18"


async def test_unknown_fields_pass_in_every_direction(http: Http) -> None:
    session = await http.initialize()
    tools = (await http.call(session, "tools/list"))["result"]["tools"]
    assert next(t for t in tools if t["name"] == "echo")["x-made-up"] == {"kept": True}
    reply = await http.call(session, "tools/call", tool_call("echo", {"deep": [{"n": None}]}, _meta={"x-mine": [1]}))
    assert reply["result"]["x-unknown"] == {"also": "kept"}
    assert reply["result"]["structuredContent"] == {"deep": [{"n": None}]}
    assert reply["result"]["_meta"]["x-kept"] == {"x-mine": [1]}


async def test_numbers_and_lone_surrogates_are_not_rounded_or_lost(http: Http) -> None:
    session = await http.initialize()
    raw = await http.request(body=rpc("tools/call", tool_call("numbers")), Mcp_Session_Id=session)
    assert b"123456789012345678901234567890" in raw.body
    assert b'"\\ud83d"' in raw.body
    sent = await http.call(session, "tools/call", tool_call("echo", {"big": 98765432109876543210987}))
    assert json.loads(text(sent)) == {"big": 98765432109876543210987}


async def test_a_server_s_errors_keep_their_code_and_data(http: Http) -> None:
    session = await http.initialize()
    reply = await http.call(session, "tools/call", tool_call("rpc_error"))
    assert reply["error"] == {"code": -32099, "message": "odd", "data": {"x-made-up": [1]}}
    assert (await http.call(session, "tools/call", tool_call("fail")))["result"]["isError"] is True


async def test_prompts_resources_templates_and_completion_reach_the_server(http: Http) -> None:
    session = await http.initialize()
    prompt = await http.call(session, "prompts/get", {"name": "greet", "arguments": {"who": "Bo"}})
    assert prompt["result"]["messages"][0]["content"]["text"] == "greet Bo"
    for uri in ("note://one", "note://by/ada"):
        read = await http.call(session, "resources/read", {"uri": uri})
        assert read["result"]["contents"] == [{"uri": uri, "text": f"alpha {uri}"}]
    for ref in ({"type": "ref/prompt", "name": "greet"}, {"type": "ref/resource", "uri": "note://by/{name}"}):
        params = {"ref": ref, "argument": {"name": "who", "value": "A"}}
        completion = (await http.call(session, "completion/complete", params))["result"]["completion"]
        assert completion == {"values": [ref.get("name") or ref["uri"]], "x-more": 1}


async def test_a_log_level_reaches_servers_that_run_and_those_that_start_later(http: Http) -> None:
    session = await http.initialize()
    assert (await http.call(session, "logging/setLevel", {"level": "warning"}))["result"] == {}
    assert json.loads(text(await http.call(session, "tools/call", tool_call("whoami"))))["level"] == "warning"
    await http.call(session, "logging/setLevel", {"level": "debug"})
    assert json.loads(text(await http.call(session, "tools/call", tool_call("whoami"))))["level"] == "debug"
    refused = await http.call(session, "logging/setLevel", {"level": "loud"})
    assert refused["error"]["code"] == -32602


async def test_progress_comes_before_the_result_with_the_client_s_own_token(http: Http) -> None:
    session = await http.initialize()
    params = tool_call("progress", _meta={"progressToken": "mine"})
    first, second, last = await http.call(session, "tools/call", params)
    assert [m["params"]["progress"] for m in (first, second)] == [1, 2]
    assert first["params"]["progressToken"] == "mine"
    assert first["params"]["x-extra"] == "kept"
    assert text(last) == "done"


async def test_a_client_that_takes_only_json_gets_only_the_result(http: Http) -> None:
    session = await http.initialize()
    params = tool_call("progress", _meta={"progressToken": 1})
    assert text(await http.call(session, "tools/call", params, Accept="application/json")) == "done"


async def test_a_client_that_takes_only_events_gets_an_event(http: Http) -> None:
    session = await http.initialize(Accept="application/json")
    body = rpc("tools/call", tool_call("echo"))
    (only,) = (await http.request(body=body, Mcp_Session_Id=session, Accept="text/event-stream")).events
    assert only["id"] == 1


async def test_log_messages_travel_beside_the_call_that_caused_them(http: Http) -> None:
    session = await http.initialize()
    *logs, result = await http.call(session, "tools/call", tool_call("log", {"n": 7}))
    assert [m["params"] for m in logs] == [{"level": level, "data": {"n": 7}} for level in ("debug", "warning")]
    assert text(result) == "done"


async def answer(http: Http, session: str, name: str, result: Any) -> Any:
    """Call the tool ``name``, answer what the server asks of us with ``result``; the question and the tool's text."""
    body = rpc("tools/call", tool_call(name))
    async with http.events("POST", body, Mcp_Session_Id=session) as following:
        question = await following()
        reply = {"jsonrpc": "2.0", "id": question["id"], **result}
        assert (await http.request(body=reply, Mcp_Session_Id=session)).status == 202
        return question, text(await following())


async def test_sampling_elicitation_and_roots_go_to_the_client_and_back(http: Http) -> None:
    session = await http.initialize(capabilities={"sampling": {}, "elicitation": {}, "roots": {}})
    for name, method in (
        ("sample", "sampling/createMessage"),
        ("elicit", "elicitation/create"),
        ("roots", "roots/list"),
    ):
        question, said = await answer(http, session, name, {"result": {"from": "client", "x-made-up": 1}})
        assert question["method"] == method
        assert json.loads(said) == {"from": "client", "x-made-up": 1}
    _, said = await answer(http, session, "elicit", {"error": {"code": -1, "message": "no"}})
    assert json.loads(said) == {"code": -1, "message": "no"}


async def test_a_server_that_asks_a_client_without_the_capability_is_told_at_once(http: Http) -> None:
    session = await http.initialize()
    reply = await http.call(session, "tools/call", tool_call("elicit"))
    assert json.loads(text(reply))["code"] == -32601


async def test_a_server_that_asks_a_client_without_a_stream_is_told_at_once(http: Http) -> None:
    session = await http.initialize(capabilities={"elicitation": {}})
    reply = await http.call(session, "tools/call", tool_call("elicit"), Accept="application/json")
    assert json.loads(text(reply))["code"] == -32603


async def test_roots_list_changed_reaches_the_server(http: Http) -> None:
    session = await http.initialize()
    await http.call(session, "tools/call", tool_call("counter"))
    note = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
    assert (await http.request(body=note, Mcp_Session_Id=session)).status == 202
    assert text(await http.call(session, "tools/call", tool_call("counter"))) == "102"


async def test_the_get_stream_carries_what_no_call_is_waiting_for(http: Http) -> None:
    session = await http.initialize()
    async with http.events("GET", Mcp_Session_Id=session) as following:
        await http.call(session, "resources/subscribe", {"uri": "note://one"})
        await http.call(session, "tools/call", tool_call("touch"))
        updated, changed = await following(), await following()
    assert (updated["method"], updated["params"]) == ("notifications/resources/updated", {"uri": "note://one"})
    assert changed["method"] == "notifications/tools/list_changed"


async def test_notifications_wait_for_the_get_stream(http: Http) -> None:
    session = await http.initialize()
    plain = "application/json"  # no stream of events that could carry them
    await http.call(session, "tools/call", tool_call("touch"), Accept=plain)
    await http.call(session, "tools/call", tool_call("counter"), Accept=plain)  # by now they have arrived
    async with http.events("GET", Mcp_Session_Id=session) as following:
        assert (await following())["method"] == "notifications/resources/updated"


async def test_a_client_that_reconnects_takes_its_stream_with_it(http: Http) -> None:
    session = await http.initialize()
    async with http.events("GET", Mcp_Session_Id=session), http.events("GET", Mcp_Session_Id=session) as second:
        await http.call(session, "tools/call", tool_call("touch"))
        assert (await second())["method"] == "notifications/resources/updated"


async def test_cancelling_frees_the_client_and_tells_the_server(http: Http, gateway: Gateway) -> None:
    session = await http.initialize()
    await http.call(session, "tools/call", tool_call("counter"))
    hanging = asyncio.create_task(http.call(session, "tools/call", tool_call("hang"), request_id="h"))
    found = gateway.sessions.get(session, operator(gateway))
    assert found is not None
    await until(lambda: "h" in found.calls and found.calls["h"].upstream is not None)
    upstream_id = found.calls["h"].upstream_id
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "h", "reason": "bored"}}
    assert (await http.request(body=note, Mcp_Session_Id=session)).status == 202
    assert (await hanging)["error"]["code"] == -32800
    assert json.loads(text(await http.call(session, "tools/call", tool_call("last_cancelled")))) == [upstream_id]


async def test_an_id_that_is_in_flight_cannot_be_used_again(http: Http, gateway: Gateway) -> None:
    session = await http.initialize()
    hanging = asyncio.create_task(http.call(session, "tools/call", tool_call("hang"), request_id="h"))
    found = gateway.sessions.get(session, operator(gateway))
    assert found is not None
    await until(lambda: "h" in found.calls)
    again = await http.call(session, "tools/call", tool_call("echo"), request_id="h")
    assert again["error"]["code"] == -32600
    assert "h" in found.calls, "the first call lives on"
    await http.request("DELETE", Mcp_Session_Id=session)
    assert (await hanging)["error"]["data"]["code"] == "gateway.server_exited"


async def test_a_batch_is_answered_in_the_one_revision_that_has_batches(http: Http) -> None:
    old, new = await http.initialize("2025-03-26"), await http.initialize("2025-06-18")
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    batch = [rpc("ping", None, 1), note, rpc("tools/call", tool_call("echo", {"x": 1}), 2), {"odd": 1}]
    answers = (await http.request(body=batch, Mcp_Session_Id=old)).json
    assert [a.get("id") for a in answers] == [1, 2, None]
    assert answers[0]["result"] == {}
    assert answers[2]["error"]["code"] == -32600
    assert (await http.request(body=[note], Mcp_Session_Id=old)).status == 202
    refused = await http.request(body=batch, Mcp_Session_Id=new)
    assert (refused.status, refused.json["error"]["code"]) == (400, -32600)


async def test_deleting_a_session_ends_its_sandbox_and_its_id(http: Http, world: World) -> None:
    session = await http.initialize()
    await http.call(session, "tools/call", tool_call("counter"))
    assert world.running == 1
    assert (await http.request("DELETE", Mcp_Session_Id=session)).status == 204
    assert (await http.request(body=rpc("ping"), Mcp_Session_Id=session)).status == 404
    await until(lambda: world.running == 0)


async def test_a_cursor_that_nobody_gave_out_is_refused(http: Http) -> None:
    session = await http.initialize()
    assert (await http.call(session, "tools/list", {"cursor": "x"}))["error"]["code"] == -32602


async def test_unknown_methods_tools_prompts_and_resources_get_the_protocol_s_errors(http: Http) -> None:
    session = await http.initialize()
    assert (await http.call(session, "no/such"))["error"]["code"] == -32601
    assert (await http.call(session, "tools/call", tool_call("nope")))["error"]["code"] == -32602
    assert (await http.call(session, "tools/call", {"name": 7}))["error"]["code"] == -32602
    assert (await http.call(session, "tools/call", tool_call("echo") | {"arguments": [1]}))["error"]["code"] == -32602
    assert (await http.call(session, "prompts/get", {"name": "nope"}))["error"]["code"] == -32602
    assert (await http.call(session, "completion/complete", {"ref": {"type": "?"}}))["error"]["code"] == -32602
