"""Dynamic tools over Streamable HTTP, bytes on the wire, both eras."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.gateway import Gateway
from gateway.pool_lease import Lease
from harbourmaster.core.settings import Settings
from policies.errors import AdmissionDenied
from tests.gateway import backend
from tests.gateway.harness import Http, Response, World, enveloped, locked, rpc, serving, tool_call, until
from tests.gateway.test_profiles_http import CONFIG, names, text, write

OWN = {"mcp-find", "mcp-add", "mcp-remove", "mcp-config-set", "mcp-exec"}
CARD = {
    "name": "weather",
    "title": "Weather",
    "description": "forecasts",
    "tier": "community",
    "kind": "server",
    "tools": 3,
}


@pytest.fixture
def world() -> World:
    return tidal_world()


def tidal_world() -> World:
    """``alpha`` is enabled; ``tides`` and ``gamma``, which needs a value, are locked alone; the catalog knows another."""
    tides = backend.listing(
        "tides", tools=[backend.TOOLS[0], backend.tool("tide_table", description="When is high tide?")]
    )
    run = {
        "network": {"hosts": ["tides.example:443"]},
        "secrets": [{"name": "key", "env": "KEY", "required": False}],
        "asked": {"host_paths": {"value": ["/srv/tides:/tides:ro"], "reason": "the tables lie there"}},
    }
    world = World(
        {
            "alpha": locked("alpha"),
            "tides": locked("tides", tides, enabled=False, run=run),
            "gamma": locked("gamma", enabled=False, run={"config": CONFIG, "command": [], "env": {}}),
        }
    )
    world.options = {"catalog": lambda query, limit: [CARD] if "weather" in query else []}
    return world


@pytest.fixture
async def served(settings: Settings, world: World) -> AsyncIterator[tuple[Gateway, Http]]:
    write(settings, "default", {"dynamic": True, "servers": {"*": None}})
    write(settings, "closed", {"dynamic": {"servers": []}, "servers": {"alpha": {"tools": {"deny": ["fail"]}}}})
    write(settings, "keeps", {"dynamic": {"persist": True}})
    async with serving(settings, world) as pair:
        yield pair


APPROVE = """@id("own.ask") @reason("counting is serious") @remedy("ask") @approval("client")
forbid (principal, action == Action::"call", resource) when { resource.name == "counter" };
"""


async def call(http: Http, session: str, tool: str, /, **arguments: Any) -> Any:
    """The result; notices of changed lists may come before it."""
    reply = await http.call(session, "tools/call", tool_call(tool, arguments))
    return (reply[-1] if isinstance(reply, list) else reply)["result"]


def code(result: Any) -> str:
    assert result["isError"] is True, result
    return str(result["structuredContent"]["error"]["code"])


async def add(http: Http, session: str, name: str) -> Any:
    """The two calls of a client that cannot ask a person itself."""
    first = await call(http, session, "mcp-add", name=name)
    return await call(http, session, "mcp-add", name=name, accept=first["structuredContent"]["accept"])


async def test_a_client_of_300_servers_with_3000_tools_carries_a_handful_of_schemas(
    settings: Settings, world: World
) -> None:
    schema = {"type": "object", "properties": {f"argument{n}": {"type": "string"} for n in range(8)}}
    for n in range(300):
        tools = [backend.tool(f"s{n}_tool{t}", description=f"does {t} for {n}", inputSchema=schema) for t in range(10)]
        world.servers[f"server{n}"] = locked(f"server{n}", backend.listing(f"server{n}", tools=tools))
    async with serving(settings, world) as (_, http):
        full = len(json.dumps((await http.call(await http.initialize(), "tools/list"))["result"]))
    world.options["dynamic"] = True
    async with serving(settings, world) as (_, http):
        session = await http.initialize()
        listed = (await http.call(session, "tools/list"))["result"]["tools"]
        assert {t["name"] for t in listed} == OWN
        assert len(json.dumps(listed)) < 5_000 < 1_000_000 < full
        assert (await http.call(session, "resources/list"))["result"]["resources"] == []
        found = await call(http, session, "mcp-find", query="s217_tool4")
        assert found["structuredContent"]["tools"][0]["name"] == "s217_tool4"
        assert world.started == []


async def test_a_tool_that_is_found_is_executed_without_being_listed(http: Http, world: World) -> None:
    session = await http.initialize()
    assert await names(http, session) == OWN
    found = (await call(http, session, "mcp-find", query="count"))["structuredContent"]["tools"]
    assert ("counter", "alpha", "ready") in {(t["name"], t["server"], t["state"]) for t in found}
    for expected in ("1", "2"):
        result = await call(http, session, "mcp-exec", name="counter")
        assert result["content"][0]["text"] == expected
    echoed = await call(http, session, "mcp-exec", name="alpha__echo", arguments={"a": [1]})
    assert echoed["structuredContent"] == {"a": [1]}
    assert echoed["x-unknown"] == {"also": "kept"}
    assert len(world.started) == 1


async def test_every_inner_call_is_recorded_beside_the_outer_one(http: Http, world: World) -> None:
    session = await http.initialize()
    await call(http, session, "mcp-exec", name="counter")
    inner, outer = world.calls()
    assert (inner["server"], inner["tool"], inner["outcome"]) == ("alpha", "counter", "ok")
    assert (outer["server"], outer["tool"], outer["outcome"]) == ("harbourmaster", "mcp-exec", "ok")
    assert inner["session"] == outer["session"]
    assert inner["principal"] == outer["principal"] == "default"


async def test_a_policy_that_forbids_a_tool_forbids_it_in_mcp_exec_too_and_hides_it_from_mcp_find(
    settings: Settings, world: World
) -> None:
    folder = settings.home / "policies" / "calls"
    folder.mkdir(parents=True)
    rule = '@id("own.no-counting") @reason("counting is over") @remedy("stop")\nforbid (principal, action == Action::"call", resource) when { resource.name == "counter" };'
    (folder / "own.cedar").write_text(rule)
    write(settings, "default", {"dynamic": True, "servers": {"*": None}})
    async with serving(settings, world) as (gateway, http):
        narrow = Http(http.port, gateway.tokens.create("narrow"))
        session = await narrow.initialize()
        reply = await narrow.call(session, "tools/call", tool_call("mcp-exec", {"name": "counter"}))
        assert reply["error"]["data"]["code"] == "auth.denied"
        found = (await call(narrow, session, "mcp-find", query="counter"))["structuredContent"]["tools"]
        assert "counter" not in {t["name"] for t in found}
        assert world.started == []


async def test_a_token_without_exec_sees_no_dynamic_tool_and_calls_none(gateway: Gateway, http: Http) -> None:
    narrow = Http(http.port, gateway.tokens.create("narrow", scopes=("list", "call")))
    session = await narrow.initialize()
    assert await names(narrow, session) == set()
    reply = await narrow.call(session, "tools/call", tool_call("mcp-exec", {"name": "counter"}))
    assert reply["error"]["data"]["code"] == "auth.denied"


async def test_a_token_for_some_servers_neither_finds_nor_adds_others(gateway: Gateway, http: Http) -> None:
    narrow = Http(http.port, gateway.tokens.create("narrow", servers=("alpha",)))
    session = await narrow.initialize()
    found = (await call(narrow, session, "mcp-find", query="tide counter"))["structuredContent"]["tools"]
    assert {t["server"] for t in found} == {"alpha"}
    assert code(await call(narrow, session, "mcp-add", name="tides")) == "dynamic.add_refused"
    assert (await call(narrow, session, "mcp-exec", name="counter"))["content"][0]["text"] == "1"


async def test_a_server_is_added_only_with_a_yes_to_exactly_what_it_may_touch(http: Http, world: World) -> None:
    session = await http.initialize()
    asked = await call(http, session, "mcp-add", name="tides")
    assert code(asked) == "dynamic.consent_needed"
    touches = asked["structuredContent"]["touches"]
    assert (touches["network"], touches["secrets"], touches["tools"]) == (
        ["tides.example:443"],
        ["key"],
        ["echo", "tide_table"],
    )
    assert "Network: tides.example:443" in asked["content"][0]["text"]
    assert "host_paths /srv/tides:/tides:ro, because: the tables lie there" in asked["content"][0]["text"]
    assert code(await call(http, session, "mcp-add", name="tides", accept="yes")) == "dynamic.consent_moved"
    assert "tide_table" not in await names(http, session)
    added = await call(http, session, "mcp-add", name="tides", accept=asked["structuredContent"]["accept"])
    assert added["structuredContent"]["tools"] == ["tide_table", "tides__echo"]
    assert await names(http, session) == OWN | {"tide_table", "tides__echo"}
    assert world.started == []


async def test_what_is_added_by_whose_yes_and_what_is_removed_is_on_record(http: Http, world: World) -> None:
    session = await http.initialize()
    asked = await call(http, session, "mcp-add", name="tides")
    await call(http, session, "mcp-add", name="tides", accept=asked["structuredContent"]["accept"])
    await call(http, session, "mcp-add", name="alpha")
    await call(http, session, "mcp-remove", name="tides")
    found = [r for r in world.records if r["kind"] == "dynamic"]
    assert [(r["event"], r["server"], r.get("by")) for r in found] == [
        ("add", "tides", "person"),
        ("add", "alpha", "profile"),
        ("remove", "tides", None),
    ]
    assert found[0]["agreed"] == asked["structuredContent"]["accept"]
    assert {(r["principal"], r["profile"]) for r in found} == {("default", "default")}
    assert world.calls()[0]["notes"] == ["dynamic.consent_needed"]


async def test_what_is_added_renames_nothing_and_concerns_one_session_alone(http: Http) -> None:
    mine, other = await http.initialize(), await http.initialize()
    await add(http, mine, "tides")
    assert text(await http.call(mine, "tools/call", tool_call("echo", {"who": 1}))) == '{"who": 1}'
    assert await names(http, other) == OWN
    reply = await http.call(other, "tools/call", tool_call("mcp-exec", {"name": "tide_table"}))
    assert code(reply["result"]) == "gateway.unknown_tool"
    await call(http, mine, "mcp-remove", name="tides")
    assert await names(http, mine) == OWN


async def test_a_server_that_is_locked_as_something_else_is_not_what_was_agreed_to(
    gateway: Gateway, http: Http, world: World
) -> None:
    session = await http.initialize()
    await add(http, session, "tides")
    assert text(await http.call(session, "tools/call", tool_call("tides__echo"))) == "{}"
    wider = dataclasses.replace(
        world.servers["tides"], run={"network": {"hosts": ["tides.example:443", "evil.example:443"]}}
    )
    world.servers = {**world.servers, "tides": wider}
    async with http.events("GET", Mcp_Session_Id=session) as following:
        world.changed = world.servers
        assert (await following())["method"] == "notifications/tools/list_changed"
    assert await names(http, session) == OWN
    await until(lambda: world.started[0].process.returncode is not None)
    asked = await call(http, session, "mcp-add", name="tides")
    assert "evil.example:443" in asked["structuredContent"]["touches"]["network"]


async def test_a_profile_that_stops_being_dynamic_lists_its_servers_again(
    settings: Settings, gateway: Gateway, http: Http
) -> None:
    session = await http.initialize()
    await add(http, session, "tides")
    write(settings, "default", {"servers": {"alpha": {"tools": {"allow": ["echo"]}}}})
    await until(lambda: gateway.view("default").dynamic is None)
    assert await names(http, session) == {"echo"}
    reply = await http.call(session, "tools/call", tool_call("mcp-exec", {"name": "echo"}))
    assert reply["error"]["data"]["code"] == "gateway.unknown_tool"


async def test_the_client_hears_that_its_list_changed(http: Http) -> None:
    session = await http.initialize()
    async with http.events("GET", Mcp_Session_Id=session) as following:
        await add(http, session, "tides")
        assert (await following())["method"] == "notifications/tools/list_changed"


async def test_a_removed_server_s_sandbox_ends(http: Http, world: World) -> None:
    session = await http.initialize()
    await add(http, session, "tides")
    assert text(await http.call(session, "tools/call", tool_call("tides__echo")))
    await call(http, session, "mcp-remove", name="tides")
    await until(lambda: world.started[0].process.returncode is not None)
    assert code(await call(http, session, "mcp-exec", name="tide_table")) == "gateway.unknown_tool"


async def test_what_admission_refuses_is_not_added(http: Http, world: World) -> None:
    session = await http.initialize()
    world.refuse = AdmissionDenied("its papers are not in order", remedy="build it again")
    assert code(await add(http, session, "tides")) == "admission.denied"
    assert await names(http, session) == OWN


async def test_servers_that_nobody_locked_are_found_and_say_why_they_cannot_be_added(http: Http) -> None:
    session = await http.initialize()
    found = (await call(http, session, "mcp-find", query="weather"))["structuredContent"]
    assert [(s["name"], s["state"]) for s in found["servers"]] == [("weather", "not built here")]
    assert code(await call(http, session, "mcp-add", name="weather")) == "dynamic.not_built"
    assert code(await call(http, session, "mcp-add", name="nobody")) == "dynamic.not_found"


async def test_a_profile_keeps_out_what_its_operator_did_not_open(http: Http) -> None:
    closed = http.at("closed")
    session = await closed.initialize()
    assert code(await call(closed, session, "mcp-add", name="tides")) == "dynamic.add_refused"
    assert code(await call(closed, session, "mcp-exec", name="fail")) == "gateway.unknown_tool"
    found = (await call(closed, session, "mcp-find", query="tide fail echo"))["structuredContent"]["tools"]
    assert {t["server"] for t in found} == {"alpha"}
    assert "fail" not in {t["name"] for t in found}
    listed = await call(closed, session, "mcp-add", name="alpha")
    assert "echo" in listed["structuredContent"]["tools"], "the operator chose it: nobody is asked"
    assert "echo" in await names(closed, session)


async def test_values_are_set_by_the_client_checked_by_schema_and_never_over_the_operator_s(
    settings: Settings, gateway: Gateway, http: Http
) -> None:
    session = await http.initialize()
    assert code(await call(http, session, "mcp-add", name="gamma")) == "profile.config_missing"
    bad = await call(http, session, "mcp-config-set", server="gamma", values={"place": "nowhere"})
    assert code(bad) == "profile.config_invalid"
    assert await call(http, session, "mcp-config-set", server="gamma", values={"place": "here"})
    assert (await add(http, session, "gamma"))["structuredContent"]["state"] == "added"
    again = await call(http, session, "mcp-config-set", server="gamma", values={"place": "there"})
    assert "add it again" in again["structuredContent"]["note"], "what was agreed to had another value"
    assert await names(http, session) == OWN
    write(settings, "closed", {"dynamic": True, "servers": {"gamma": {"config": {"place": "here"}}}})
    await until(lambda: "gamma" in gateway.view("closed").index.servers)
    closed = http.at("closed")
    fixed = await call(closed, await closed.initialize(), "mcp-config-set", server="gamma", values={"place": "there"})
    assert code(fixed) == "dynamic.config_fixed"


async def test_what_is_added_stays_for_later_sessions_only_where_the_operator_says_so(
    gateway: Gateway, http: Http
) -> None:
    keeps = http.at("keeps")
    await add(keeps, await keeps.initialize(), "tides")
    await until(lambda: "tides" in gateway.view("keeps").seen.selection.servers)
    session = await keeps.initialize()
    assert (await call(keeps, session, "mcp-exec", name="echo", arguments={"a": 1}))["structuredContent"] == {"a": 1}
    await add(http, await http.initialize(), "tides")
    assert "tides" not in gateway.view("default").seen.selection.servers


async def test_dynamic_tools_do_not_nest_and_bad_arguments_are_explained(http: Http) -> None:
    session = await http.initialize()
    assert code(await call(http, session, "mcp-exec", name="mcp-exec")) == "dynamic.nested"
    for name, arguments in (("mcp-exec", {}), ("mcp-find", {"query": 3}), ("mcp-find", {"query": "x", "limit": 999})):
        result = await call(http, session, name, **arguments)
        assert result["isError"] is True, (name, arguments)


async def test_a_cancelled_execution_cancels_the_call_within(gateway: Gateway, http: Http) -> None:
    session = await http.initialize()
    hanging = asyncio.create_task(http.call(session, "tools/call", tool_call("mcp-exec", {"name": "hang"}), "h"))
    await until(lambda: any(lease.ready and "tools/call" in _methods(lease) for lease in gateway.leases))
    body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "h"}}
    await http.request(body=body, Mcp_Session_Id=session)
    assert (await hanging)["error"]["data"]["code"] == "gateway.call_cancelled"
    last = await call(http, session, "mcp-exec", name="last_cancelled")
    assert last["content"][0]["text"] != "null"


def _methods(lease: Lease) -> set[str]:
    return {call.method for call in lease.upstream.pending.values()}


async def test_a_client_that_can_ask_a_person_asks_and_the_answer_decides(http: Http) -> None:
    session = await http.initialize(capabilities={"elicitation": {}})
    for action, content, added in (
        ("decline", None, False),
        ("accept", {"allow": False}, False),
        ("accept", {"allow": True}, True),
    ):
        body = rpc("tools/call", tool_call("mcp-add", {"name": "tides"}))
        async with http.events(body=body, Mcp_Session_Id=session) as following:
            asked = await following()
            assert asked["method"] == "elicitation/create"
            assert "tides.example:443" in asked["params"]["message"]
            answer = {"action": action, **({"content": content} if content else {})}
            await http.request(body={"jsonrpc": "2.0", "id": asked["id"], "result": answer}, Mcp_Session_Id=session)
            while "result" not in (reply := await following()):
                assert reply["method"].endswith("/list_changed")
        assert reply["result"].get("isError", False) is not added
        assert ("tide_table" in await names(http, session)) is added


async def modern(http: Http, name: str, arguments: Any, capabilities: Any = None, **params: Any) -> Any:
    body = rpc("tools/call", enveloped(tool_call(name, arguments, **params), capabilities))
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": name}
    response: Response = await http.request(body=body, **headers)
    return response.json["result"]


async def test_where_the_operator_wants_a_person_asked_a_second_call_is_no_yes(
    settings: Settings, gateway: Gateway, http: Http
) -> None:
    strict = http.at("strict")
    write(settings, "strict", {"dynamic": {"consent": "elicitation"}})
    await until(lambda: "strict" in gateway.views.profiles)
    session = await strict.initialize()
    for arguments in ({}, {"accept": "sha256:" + "0" * 64}):
        assert code(await call(strict, session, "mcp-add", name="tides", **arguments)) == "dynamic.add_refused"
    can = {"elicitation": {}}
    asked = await modern(strict, "mcp-add", {"name": "tides"}, can)
    (key,) = asked["inputRequests"]
    yes = {"inputResponses": {key: {"action": "accept", "content": {"allow": True}}}}
    done = await modern(strict, "mcp-add", {"name": "tides"}, can, **yes, requestState=asked["requestState"])
    assert done["structuredContent"]["state"] == "added"


async def test_a_modern_client_keeps_what_it_added_by_its_name(http: Http) -> None:
    listed = (await http.modern("tools/list")).json["result"]["tools"]
    assert {t["name"] for t in listed} == OWN
    first = await modern(http, "mcp-add", {"name": "tides"})
    assert first["resultType"] == "complete"
    await modern(http, "mcp-add", {"name": "tides", "accept": first["structuredContent"]["accept"]})
    listed = (await http.modern("tools/list")).json["result"]["tools"]
    assert {t["name"] for t in listed} == OWN | {"tide_table", "tides__echo"}
    assert (await modern(http, "mcp-exec", {"name": "counter"}))["content"][0]["text"] == "1"


async def test_a_modern_client_is_asked_in_a_round_of_its_own(http: Http) -> None:
    can = {"elicitation": {}}
    asked = await modern(http, "mcp-add", {"name": "tides"}, can)
    assert asked["resultType"] == "input_required"
    (key,) = asked["inputRequests"]
    yes = {"inputResponses": {key: {"action": "accept", "content": {"allow": True}}}}
    forged = await modern(http, "mcp-add", {"name": "tides"}, can, **yes, requestState="consent:sha256:0")
    assert code(forged) == "dynamic.consent_moved"
    done = await modern(http, "mcp-add", {"name": "tides"}, can, **yes, requestState=asked["requestState"])
    assert done["structuredContent"]["state"] == "added"


async def test_a_server_s_question_within_mcp_exec_reaches_the_modern_client_and_its_answer_the_server(
    http: Http,
) -> None:
    can = {"elicitation": {}}
    asked = await modern(http, "mcp-exec", {"name": "elicit"}, can)
    assert asked["resultType"] == "input_required"
    (key,) = asked["inputRequests"]
    answer = {"inputResponses": {key: {"action": "accept", "content": {"name": "Bo"}}}}
    done = await modern(http, "mcp-exec", {"name": "elicit"}, can, **answer, requestState=asked["requestState"])
    assert json.loads(done["content"][0]["text"])["content"] == {"name": "Bo"}


async def test_a_tool_that_wants_a_person_s_yes_gets_it_through_mcp_exec_in_both_eras(
    settings: Settings, world: World
) -> None:
    folder = settings.home / "policies" / "calls"
    folder.mkdir(parents=True)
    (folder / "own.cedar").write_text(APPROVE)
    write(settings, "default", {"dynamic": True, "servers": {"*": None}})
    async with serving(settings, world) as (gateway, http):
        http = Http(http.port, gateway.tokens.create("plain"))
        can = {"elicitation": {}}
        asked = await modern(http, "mcp-exec", {"name": "counter"}, can)
        assert asked["resultType"] == "input_required"
        (key,) = asked["inputRequests"]
        no = {"inputResponses": {key: {"action": "decline"}}, "requestState": asked["requestState"]}
        body = rpc("tools/call", enveloped(tool_call("mcp-exec", {"name": "counter"}, **no), can))
        headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "mcp-exec"}
        assert (await http.request(body=body, **headers)).json["error"]["data"]["code"] == "approval.denied"
        assert world.started == []
        session = await http.initialize(capabilities=can)
        body = rpc("tools/call", tool_call("mcp-exec", {"name": "counter"}))
        async with http.events(body=body, Mcp_Session_Id=session) as following:
            question = await following()
            assert question["method"] == "elicitation/create"
            yes = {"action": "accept", "content": _yes(question["params"]["requestedSchema"])}
            await http.request(body={"jsonrpc": "2.0", "id": question["id"], "result": yes}, Mcp_Session_Id=session)
            assert text(await following()) == "1"


def _yes(schema: Any) -> dict[str, bool]:
    return {name: True for name, each in schema["properties"].items() if each["type"] == "boolean"}
