"""Scripts whose calls a policy wants a person to look at: held for the operator or asked, and never made without a yes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.authorization import approvals
from gateway.authorization.held_calls import answer, held_calls, hold
from gateway.dynamic.code import CODE_RUNNER
from gateway.gateway import Gateway
from harbourmaster.cli import main
from harbourmaster.core.settings import Settings
from policies.authorization import CallPolicies, builtin_files
from tests.gateway.harness import Http, World, enveloped, locked, rpc, serving, tool_call, until
from tests.gateway.test_approvals import FORMS, reply
from tests.gateway.test_code_mode import RUNNER, CodeWorld
from tests.gateway.test_dynamic_http import call, modern
from tests.gateway.test_dynamic_http import code as code_of

ASK = (
    '@id("own.ask") @reason("counting is serious") @approval("%s") '
    'forbid (principal, action == Action::"call", resource) when { resource.name == "counter" };'
)
COUNT = 'print("before")\nresult(call("counter"))'


def by(who: str) -> CallPolicies:
    return CallPolicies((*builtin_files(), ("own", ASK % who)))


@pytest.fixture
def world() -> World:
    world = CodeWorld({"alpha": locked("alpha")})
    world.options = {"dynamic": True, "code": lambda: RUNNER}
    return world


@pytest.fixture
async def served(settings: Settings, world: World) -> AsyncIterator[tuple[Gateway, Http]]:
    async with serving(settings, world) as (gateway, http):
        gateway.decide_by(by("operator"))
        yield gateway, http


def events(world: World) -> list[str]:
    return [r["event"] for r in world.records if r["kind"] == "approval"]


async def the_held(settings: Settings) -> dict[str, Any]:
    await until(lambda: bool(held_calls(settings.approvals_dir)), "a held call")
    [facts] = held_calls(settings.approvals_dir)
    return facts


async def test_a_script_waits_for_the_operator_s_yes_and_goes_on_with_it(
    http: Http, settings: Settings, world: World
) -> None:
    session = await http.initialize()
    running = asyncio.create_task(call(http, session, "mcp-code", script=COUNT))
    facts = await the_held(settings)
    assert (facts["server"], facts["tool"]) == ("alpha", "counter")
    assert not any(r["tool"] == "counter" for r in world.calls())  # nothing was called before the yes
    answer(settings.approvals_dir, facts["id"], True)
    assert (await running)["structuredContent"] == {"output": "before\n", "result": "1", "calls": 1}
    assert events(world) == ["held", "approved"]


async def test_a_no_is_an_error_that_the_script_can_catch(http: Http, settings: Settings, world: World) -> None:
    session = await http.initialize()
    script = 'try:\n    call("counter")\nexcept ToolError as e:\n    print(e)\nresult(call("echo", n=1))'
    running = asyncio.create_task(call(http, session, "mcp-code", script=script))
    answer(settings.approvals_dir, (await the_held(settings))["id"], False)
    body = (await running)["structuredContent"]
    assert "a person said no to counter of alpha" in body["output"]
    assert body["result"] == {"n": 1}
    assert events(world) == ["held", "denied"]
    assert [r["outcome"] for r in world.calls() if r["tool"] == "counter"] == ["refused"]


async def test_each_held_call_of_a_script_is_approved_on_its_own(http: Http, settings: Settings) -> None:
    session = await http.initialize()
    script = 'result(call_all([("counter", {"n": 1}), ("counter", {"n": 2})]))'
    running = asyncio.create_task(call(http, session, "mcp-code", script=script))
    await until(lambda: len(held_calls(settings.approvals_dir)) == 2, "two held calls")
    for facts in held_calls(settings.approvals_dir):
        answer(settings.approvals_dir, facts["id"], True)
    assert sorted((await running)["structuredContent"]["result"]) == ["1", "2"]


async def test_a_script_whose_time_is_over_says_that_it_waited_for_a_person(
    http: Http, gateway: Gateway, settings: Settings, world: World
) -> None:
    session = await http.initialize()
    done = await call(http, session, "mcp-code", script=COUNT, seconds=4)
    assert code_of(done) == "dynamic.code_stopped"
    assert "waited for a person's yes" in done["structuredContent"]["error"]["message"]
    assert "hm approve" in done["structuredContent"]["error"]["remedy"]
    await until(lambda: not list(settings.approvals_dir.iterdir()), "the end of the held call")
    await until(lambda: not any(lease.server.name == CODE_RUNNER for lease in gateway.leases), "the script's end")
    assert events(world) == ["held", "withdrawn"]
    assert not any(r["tool"] == "counter" and r["outcome"] == "ok" for r in world.calls())


async def test_a_script_that_waits_has_a_deadline_of_the_approval_s_too(settings: Settings, world: World) -> None:
    async with serving(settings.model_copy(update={"approval_deadline_s": 0.3}), world) as (gateway, http):
        gateway.decide_by(by("operator"))
        script = 'try:\n    call("counter")\nexcept ToolError as e:\n    print(e)'
        done = await call(http, await http.initialize(), "mcp-code", script=script)
        assert "nobody approved counter of alpha" in done["structuredContent"]["output"]


async def test_a_client_that_cancels_its_script_takes_the_held_call_with_it(
    http: Http, settings: Settings, world: World
) -> None:
    session = await http.initialize()
    body = rpc("tools/call", tool_call("mcp-code", {"script": COUNT}), "s")
    async with http.events(body=body, Mcp_Session_Id=session) as following:
        await the_held(settings)
        await until(lambda: events(world) == ["held"], "the record of the held call")
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "s"}}
        await http.request(body=note, Mcp_Session_Id=session)
        with contextlib.suppress(AssertionError):  # a cancelled call need not be answered
            await following()
    await until(lambda: not held_calls(settings.approvals_dir), "the end of the held call")
    await until(lambda: events(world) == ["held", "withdrawn"], "the record of it")


async def test_the_user_of_a_session_that_can_ask_is_asked_in_the_middle_of_the_script(
    http: Http, gateway: Gateway, settings: Settings, world: World
) -> None:
    gateway.decide_by(by("client"))
    session = await http.initialize(capabilities=FORMS)
    body = rpc("tools/call", tool_call("mcp-code", {"script": COUNT}), "s")
    async with http.events(body=body, Mcp_Session_Id=session) as following:
        question = await following()
        assert "counting is serious" in question["params"]["message"]
        await reply(http, session, question, {"action": "accept", "content": {"approve": True}})
        assert (await following())["result"]["structuredContent"]["result"] == "1"
    assert held_calls(settings.approvals_dir) == []
    assert events(world) == ["approved"]


async def test_a_modern_client_s_script_is_held_for_the_operator_because_it_cannot_be_left_and_taken_up_again(
    http: Http, gateway: Gateway, settings: Settings, world: World
) -> None:
    gateway.decide_by(by("client"))
    body = rpc("tools/call", enveloped(tool_call("mcp-code", {"script": COUNT}), FORMS))
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "mcp-code"}
    running = asyncio.create_task(http.request(body=body, **headers))
    answer(settings.approvals_dir, (await the_held(settings))["id"], True)
    done = await running
    messages = done.events if done.headers["content-type"] == "text/event-stream" else [done.json]
    assert messages[-1]["result"]["structuredContent"]["result"] == "1"
    assert events(world) == ["held", "approved"]
    alone = await modern(http, "mcp-exec", {"name": "counter", "arguments": {}}, FORMS)
    assert alone["resultType"] == "input_required"  # by itself, the same call asks the client's own user


async def test_what_a_script_waits_for_is_shown_as_its_progress(http: Http, settings: Settings) -> None:
    session = await http.initialize()
    params = {**tool_call("mcp-code", {"script": COUNT}), "_meta": {"progressToken": "p"}}
    async with http.events(body=rpc("tools/call", params, "s"), Mcp_Session_Id=session) as following:
        told = await following()
        held = (await the_held(settings))["id"]
        assert told["params"]["progressToken"] == "p"
        assert told["params"]["message"] == f"waits for a person: hm approve yes {held}"
        answer(settings.approvals_dir, held, True)
        assert (await following())["result"]["structuredContent"]["result"] == "1"


async def test_mcp_exec_holds_a_call_as_the_client_s_own(http: Http, settings: Settings) -> None:
    session = await http.initialize()
    running = asyncio.create_task(call(http, session, "mcp-exec", name="counter"))
    answer(settings.approvals_dir, (await the_held(settings))["id"], True)
    assert (await running)["content"][0]["text"] == "1"


async def test_a_person_finds_a_script_s_call_on_the_command_line(
    http: Http, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("HM_HOME", str(settings.home))

    def run(*words: str) -> str:
        with contextlib.suppress(SystemExit):
            main(("approve", *words))
        return str(capsys.readouterr().out)

    running = asyncio.create_task(call(http, await http.initialize(), "mcp-code", script=COUNT))
    held = (await the_held(settings))["id"]
    assert f"{held}  counter of alpha, for default (raw)" in await asyncio.to_thread(run, "ls")
    assert "allowed" in await asyncio.to_thread(run, "yes", held)
    assert (await running)["structuredContent"]["result"] == "1"


async def test_a_server_that_asks_a_modern_client_in_a_script_gets_no_answer_and_the_script_hears_why(
    http: Http, gateway: Gateway
) -> None:
    gateway.decide_by(CallPolicies(tuple(builtin_files())))
    script = 'try:\n    call("elicit")\nexcept ToolError as e:\n    print(e)'
    body = rpc("tools/call", enveloped(tool_call("mcp-code", {"script": script}), FORMS))
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "mcp-code"}
    done = (await http.request(body=body, **headers)).json["result"]["structuredContent"]
    assert "asks a person, which a script cannot wait for" in done["output"]
    assert not any(lease.upstream.pending for lease in gateway.leases)  # nothing stays parked behind it


async def test_a_call_that_ends_while_it_is_being_held_leaves_no_file(
    http: Http, settings: Settings, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*given: Any) -> None:
        begun.set()
        go_on.wait(60)
        hold(*given)

    monkeypatch.setattr(approvals, "hold", slowly)
    session = await http.initialize()
    running = asyncio.create_task(http.call(session, "tools/call", tool_call("mcp-code", {"script": COUNT}), "s"))
    await until(begun.is_set, "the writing of the file")
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "s"}}
    await http.request(body=note, Mcp_Session_Id=session)
    go_on.set()
    await running
    await until(lambda: settings.approvals_dir.is_dir() and not list(settings.approvals_dir.iterdir()), "no file")
    assert events(world) == []
