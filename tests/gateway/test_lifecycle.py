"""Sandboxes over time: one per client, lazily; crashes, timeouts, limits, admission, audit, reload."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from gateway.limits import LIMITS, Limits
from harbourmaster.core.errors import RefusedError, UnavailableError
from harbourmaster.core.settings import Settings
from tests.gateway import backend
from tests.gateway.harness import Http, World, locked, operator, rpc, running, serving, tool_call, until


def text(reply: Any) -> str:
    return str(reply["result"]["content"][0]["text"])


def code(reply: Any) -> str:
    return str(reply["error"]["data"]["code"])


class Denied(RefusedError):
    code = "admission.denied"


class AuditGone(UnavailableError):
    code = "audit.unavailable"


async def test_two_clients_never_see_each_other_s_state(http: Http, world: World) -> None:
    one, two = await http.initialize(), await http.initialize()
    assert [text(await http.call(one, "tools/call", tool_call("counter"))) for _ in range(3)] == ["1", "2", "3"]
    assert text(await http.call(two, "tools/call", tool_call("counter"))) == "1"
    assert world.running == 2


async def test_calls_of_one_client_that_arrive_together_share_one_start(http: Http, world: World) -> None:
    session = await http.initialize()
    replies = await asyncio.gather(
        *(http.call(session, "tools/call", tool_call("counter"), request_id=n) for n in range(20))
    )
    assert sorted(int(text(r)) for r in replies) == list(range(1, 21))
    assert {r["id"] for r in replies} == set(range(20))
    assert len(world.started) == 1


async def test_a_crash_fails_that_call_and_the_next_gets_a_fresh_sandbox(http: Http, world: World) -> None:
    session = await http.initialize()
    await http.call(session, "tools/call", tool_call("counter"))
    reply = await http.call(session, "tools/call", tool_call("crash"))
    assert code(reply) == "gateway.server_exited"
    assert "remedy" in reply["error"]["data"]
    assert "about to crash" not in json.dumps(reply), "what the server printed is not the client's to see"
    assert text(await http.call(session, "tools/call", tool_call("counter"))) == "1"
    assert world.running == 1


async def test_a_call_that_hangs_times_out_and_the_server_hears_of_it(settings: Settings, world: World) -> None:
    async with serving(settings.model_copy(update={"call_timeout_s": 0.5}), world) as (_, http):
        session = await http.initialize()
        reply = await http.call(session, "tools/call", tool_call("hang"))
        assert (reply["error"]["code"], code(reply)) == (-32001, "gateway.call_timeout")
        assert len(json.loads(text(await http.call(session, "tools/call", tool_call("last_cancelled"))))) == 1


async def test_garbage_on_stdout_is_dropped_and_cannot_answer_a_call(http: Http) -> None:
    session = await http.initialize()
    assert text(await http.call(session, "tools/call", tool_call("garbage"))) == "still here"


async def test_a_server_that_never_shakes_hands_fails_the_call_and_leaves_nothing(
    settings: Settings, world: World
) -> None:
    world.servers = {"alpha": locked("alpha", run={"command": ["--mute"]})}
    async with serving(settings.model_copy(update={"start_timeout_s": 0.5}), world) as (gateway, http):
        reply = await http.call(await http.initialize(), "tools/call", tool_call("echo"))
        assert code(reply) == "gateway.start_timeout"
        await until(lambda: world.running == 0 and gateway.sandboxes == 0)


async def test_at_the_limit_the_longest_idle_sandbox_makes_room(settings: Settings, world: World) -> None:
    async with serving(settings.model_copy(update={"max_sandboxes": 2}), world) as (_, http):
        one, two, three = [await http.initialize() for _ in range(3)]
        for session in (one, two, three):
            await http.call(session, "tools/call", tool_call("counter"))
        assert world.running == 2
        assert text(await http.call(three, "tools/call", tool_call("counter"))) == "2"
        assert code(await http.call(one, "tools/call", tool_call("counter"))) == "sandbox.evicted"
        assert text(await http.call(one, "tools/call", tool_call("counter"))) == "1", "its state went with its sandbox"


async def test_at_the_limit_with_all_in_use_a_call_is_refused(settings: Settings, world: World) -> None:
    async with serving(settings.model_copy(update={"max_sandboxes": 1, "sandbox_wait_s": 0.1}), world) as (
        gateway,
        http,
    ):
        one, two = await http.initialize(), await http.initialize()
        found = gateway.sessions.get(one, operator(gateway))
        assert found is not None
        hanging = asyncio.create_task(http.call(one, "tools/call", tool_call("hang"), request_id="h"))
        await until(lambda: "h" in found.calls and found.calls["h"].upstream is not None)
        reply = await http.call(two, "tools/call", tool_call("echo"))
        assert (reply["error"]["code"], code(reply)) == (-32012, "gateway.too_many_sandboxes")
        await http.request("DELETE", Mcp_Session_Id=one)
        await hanging
        assert text(await http.call(two, "tools/call", tool_call("counter"))) == "1"


async def test_one_client_cannot_have_any_number_of_calls(http: Http, gateway: Any) -> None:
    session = await http.initialize()
    found = gateway.sessions.get(session, operator(gateway))
    hanging = [
        asyncio.create_task(http.call(session, "tools/call", tool_call("hang"), request_id=n))
        for n in range(LIMITS.calls_per_client)
    ]
    await until(lambda: len(found.calls) == LIMITS.calls_per_client)
    refused = await http.call(session, "tools/call", tool_call("echo"), request_id="one more")
    assert code(refused) == "gateway.too_many_calls"
    await http.request("DELETE", Mcp_Session_Id=session)
    await asyncio.gather(*hanging)


async def test_a_server_that_may_not_run_is_not_started(http: Http, world: World) -> None:
    world.refuse = Denied("the policy forbids it", remedy="ask")
    reply = await http.call(await http.initialize(), "tools/call", tool_call("echo"))
    assert reply["error"] == {
        "code": -32010,
        "message": "the policy forbids it",
        "data": {"code": "admission.denied", "remedy": "ask"},
    }
    assert world.started == []
    assert world.calls()[-1]["outcome"] == "refused"
    assert world.calls()[-1]["code"] == "admission.denied"


async def test_an_image_other_than_the_lock_s_is_not_started(http: Http, world: World) -> None:
    world.servers = {"alpha": locked("alpha", image="sha256:" + "0" * 64)}
    reply = await http.call(await http.initialize(), "tools/call", tool_call("echo"))
    assert code(reply) == "gateway.server_changed"
    assert world.started == []


async def test_a_server_that_loses_its_admission_stops(http: Http, world: World, gateway: Any) -> None:
    session = await http.initialize()
    await http.call(session, "tools/call", tool_call("echo"))
    world.refuse = Denied("no longer")
    gateway._admissions.forget()  # what ten seconds do
    assert code(await http.call(session, "tools/call", tool_call("echo"))) == "admission.denied"
    await until(lambda: world.running == 0)


async def test_a_session_that_ends_while_its_call_waits_for_a_verdict_starts_nothing(
    http: Http, world: World, gateway: Any
) -> None:
    session, admit = await http.initialize(), gateway._admissions._admit
    asked, answer = threading.Event(), threading.Event()

    def slow(name: str) -> Any:
        asked.set()
        answer.wait(60)
        return admit(name)

    gateway._admissions._admit = slow
    gateway._admissions.forget()
    waiting = asyncio.create_task(http.call(session, "tools/call", tool_call("hang")))
    await until(asked.is_set)
    assert (await http.request("DELETE", Mcp_Session_Id=session)).status == 204
    answer.set()
    assert code(await waiting) == "gateway.server_exited"
    assert (world.started, len(gateway.leases)) == ([], 0)


async def test_every_call_is_recorded_without_its_arguments(http: Http, world: World) -> None:
    session = await http.initialize()
    await http.call(session, "tools/call", tool_call("echo", {"secret": "hunter2"}))
    await http.call(session, "tools/call", tool_call("fail"))
    await http.call(session, "tools/call", tool_call("rpc_error"))
    await http.call(session, "tools/call", tool_call("nope"))
    outcomes = [(r["tool"], r["outcome"]) for r in world.calls()]
    assert outcomes == [("echo", "ok"), ("fail", "tool_error"), ("rpc_error", "rpc_error"), ("", "refused")]
    first = world.calls()[0]
    assert (first["server"], first["principal"], first["method"]) == ("alpha", "default", "tools/call")
    assert first["sandbox"] == world.started[0].id
    assert first["duration_ms"] > 0
    assert "hunter2" not in json.dumps(world.records)
    assert session not in json.dumps(world.records), "a session id is a secret"
    assert [r["event"] for r in world.records if r["kind"] == "gateway"] == ["start"]


async def test_when_the_audit_is_down_no_call_runs_and_when_it_is_back_they_do(http: Http, world: World) -> None:
    session = await http.initialize()
    await http.call(session, "tools/call", tool_call("counter"))
    world.audit_error = AuditGone("disk full")
    assert code(await http.call(session, "tools/call", tool_call("counter"))) == "audit.unavailable"  # ran, unrecorded
    assert code(await http.call(session, "tools/call", tool_call("counter"))) == "audit.unavailable"  # not even begun
    world.audit_error = None
    assert text(await http.call(session, "tools/call", tool_call("counter"))) == "3"


async def test_a_changed_lock_takes_effect_without_a_restart(http: Http, world: World) -> None:
    session = await http.initialize()
    await http.call(session, "tools/call", tool_call("counter"))
    async with http.events("GET", Mcp_Session_Id=session) as following:
        extra = backend.listing(
            "beta", tools=[backend.tool("only_here")], prompts=[], resources=[], resourceTemplates=[]
        )
        world.servers = {**world.servers, "beta": locked("beta", extra)}
        world.changed = dict(world.servers)
        assert (await following())["method"] == "notifications/tools/list_changed"
    names = {t["name"] for t in (await http.call(session, "tools/list"))["result"]["tools"]}
    assert "only_here" in names
    assert text(await http.call(session, "tools/call", tool_call("counter"))) == "2", "the unchanged server lives on"
    world.servers = {"beta": world.servers["beta"]}
    world.changed = dict(world.servers)
    await until(lambda: world.running == 0)
    assert (await http.call(session, "tools/call", tool_call("counter")))["error"]["code"] == -32602


async def test_names_that_collide_carry_their_server_s_name(settings: Settings, world: World) -> None:
    world.servers = {name: locked(name) for name in ("alpha", "beta")}
    async with serving(settings, world) as (_, http):
        session = await http.initialize()
        names = {t["name"] for t in (await http.call(session, "tools/list"))["result"]["tools"]}
        assert {"alpha__echo", "beta__echo"} <= names
        assert "echo" not in names
        said = json.loads(text(await http.call(session, "tools/call", tool_call("beta__whoami"))))
        assert said["name"] == "whoami"
        uris = [r["uri"] for r in (await http.call(session, "resources/list"))["result"]["resources"]]
        assert uris == ["alpha+note://one", "beta+note://one"]
        for uri in ("beta+note://one", "beta+note://by/ada"):
            read = (await http.call(session, "resources/read", {"uri": uri}))["result"]
            assert read["contents"] == [{"uri": uri, "text": f"beta {uri.removeprefix('beta+')}"}]
        async with http.events("GET", Mcp_Session_Id=session) as following:
            await http.call(session, "tools/call", tool_call("beta__touch"))
            assert (await following())["params"]["uri"] == "beta+note://one"


async def test_a_client_that_vanishes_in_mid_call_leaves_nothing_when_its_session_ends(
    http: Http, world: World, gateway: Any
) -> None:
    session = await http.initialize()
    body = rpc("tools/call", tool_call("slow", {"seconds": 0.6}))
    async with http.events("POST", body, Mcp_Session_Id=session):
        await until(lambda: world.running == 1)
    await until(lambda: any(r["tool"] == "slow" and r["outcome"] == "ok" for r in world.calls()))
    await http.request("DELETE", Mcp_Session_Id=session)
    await until(lambda: world.running == 0 and gateway.sandboxes == 0 and len(gateway.sessions) == 0)


async def test_leaving_the_gateway_ends_calls_streams_and_sandboxes(settings: Settings, world: World) -> None:
    async with serving(settings, world) as (gateway, http):
        session = await http.initialize()
        found = gateway.sessions.get(session, operator(gateway))
        assert found is not None
        hanging = asyncio.create_task(http.call(session, "tools/call", tool_call("hang"), request_id="h"))
        streaming = asyncio.create_task(http.request("GET", Mcp_Session_Id=session))
        await until(lambda: "h" in found.calls and found.calls["h"].upstream is not None and found.stream.started)
    assert (await streaming).status == 200
    assert code(await hanging) == "gateway.shutting_down"
    assert world.running == 0
    assert world.records[-1] == {"kind": "gateway", "event": "stop"}


async def test_a_gateway_whose_audit_cannot_be_written_does_not_start(settings: Settings, world: World) -> None:
    world.audit_error = AuditGone("disk full")
    with pytest.raises(AuditGone):
        async with running(settings, world):
            pass


async def test_a_new_session_takes_the_place_of_the_one_longest_unused(
    http: Http, gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.sessions.LIMITS", Limits(sessions=2))
    monkeypatch.setattr("gateway.sessions.SHARE", 2)
    one, two = await http.initialize(), await http.initialize()
    async with http.events("GET", Mcp_Session_Id=one):
        await until(lambda: getattr(gateway.sessions.get(one, operator(gateway)).stream, "started", False))
        await http.initialize()
        assert (await http.request(body=rpc("ping"), Mcp_Session_Id=two)).status == 404
        assert (await http.call(one, "ping"))["result"] == {}, "it has a stream, so it is in use"


async def test_a_server_that_says_absurd_things_harms_nobody(http: Http) -> None:
    session = await http.initialize(capabilities={"elicitation": {}})
    *_, last = await http.call(session, "tools/call", tool_call("absurd"))
    assert text(last) == "said it all"
    assert text(await http.call(session, "tools/call", tool_call("counter"))) == "1"


async def test_a_lock_or_token_file_that_cannot_be_read_changes_nothing(
    http: Http, world: World, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    session = await http.initialize()
    before = settings.tokens_file.read_bytes()
    settings.tokens_file.write_text("{")
    await until(lambda: "token.file_invalid" in caplog.text)
    assert (await http.call(session, "ping"))["result"] == {}
    settings.tokens_file.write_bytes(before)
