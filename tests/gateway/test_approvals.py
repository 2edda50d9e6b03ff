"""Calls that a policy wants a person to look at: asked where the client can, held for the operator where it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.authorization.held_calls import answer, held_calls
from gateway.gateway import Gateway
from harbourmaster.cli import main
from harbourmaster.core.settings import Settings
from policies.authorization import CallPolicies, builtin_files
from tests.gateway.harness import Http, World, enveloped, operator, rpc, serving, tool_call, until

FORMS = {"elicitation": {}}
ASK = '@id("own.ask") @reason("echo needs a second look") @approval("%s") forbid (principal, action == Action::"call", resource == Tool::"alpha/echo");'


def by(who: str) -> CallPolicies:
    return CallPolicies((*builtin_files(), ("own", ASK % who)))


@pytest.fixture
async def served(settings: Settings, world: World) -> AsyncIterator[tuple[Gateway, Http]]:
    async with serving(settings, world) as (gateway, http):
        gateway.decide_by(by("client"))
        yield gateway, http


@contextlib.asynccontextmanager
async def asked(http: Http, session: str, **arguments: Any) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
    """A call in flight, and the question that the client is asked before it."""
    body = rpc("tools/call", tool_call("echo", arguments), "c")
    async with http.events(body=body, Mcp_Session_Id=session) as following:
        question = await following()
        assert question["method"] == "elicitation/create"
        yield following, question


async def reply(http: Http, session: str, question: dict[str, Any], result: Any) -> None:
    await http.request(body={"jsonrpc": "2.0", "id": question["id"], "result": result}, Mcp_Session_Id=session)


async def test_the_user_of_a_client_that_can_ask_decides_with_the_arguments_before_them(
    http: Http, world: World
) -> None:
    session = await http.initialize(capabilities=FORMS)
    async with asked(http, session, what="this") as (following, question):
        assert "echo needs a second look" in question["params"]["message"]
        assert '"what": "this"' in question["params"]["message"]
        assert world.started == []  # nothing runs before they said yes
        await reply(http, session, question, {"action": "accept", "content": {"approve": True}})
        assert (await following())["result"]["structuredContent"] == {"what": "this"}
    events = [r["event"] for r in world.records if r["kind"] == "approval"]
    assert events == ["approved"]


@pytest.mark.parametrize(
    "said",
    [
        {"action": "decline"},
        {"action": "cancel"},
        {"action": "accept"},
        {"action": "accept", "content": {"approve": False}},
        {"action": "accept", "content": {"approve": "true"}},
        {},
    ],
)
async def test_anything_but_a_clear_yes_is_a_no(http: Http, world: World, said: Any) -> None:
    session = await http.initialize(capabilities=FORMS)
    async with asked(http, session) as (following, question):
        await reply(http, session, question, said)
        assert (await following())["error"]["data"]["code"] == "approval.denied"
    assert world.started == []
    assert world.calls()[-1]["outcome"] == "refused"


async def test_a_modern_client_is_asked_by_an_input_required_result(http: Http) -> None:
    call = tool_call("echo", {"what": "this"})
    params = enveloped(call, FORMS)

    async def ask(body: dict[str, Any], request_id: int) -> Any:
        headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "echo"}
        return (await http.request(body=rpc("tools/call", body, request_id), **headers)).json

    first = (await ask(params, 1))["result"]
    assert first["resultType"] == "input_required"
    yes = {"approval": {"action": "accept", "content": {"approve": True}}}
    again = {**params, "requestState": first["requestState"], "inputResponses": yes}
    done = (await ask(again, 2))["result"]
    assert json.loads(done["content"][0]["text"]) == {"what": "this"}
    assert (await ask(again, 3))["error"]["data"]["code"] == "approval.timeout"  # a yes is for one call


async def test_a_yes_to_one_call_is_no_yes_to_another(http: Http, gateway: Gateway) -> None:
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "echo"}
    params = enveloped(tool_call("echo", {"what": "small"}), FORMS)
    yes = {"approval": {"action": "accept", "content": {"approve": True}}}

    async def state() -> str:
        response = await http.request(body=rpc("tools/call", params), **headers)
        return str(response.json["result"]["requestState"])

    other = enveloped(tool_call("echo", {"what": "large"}), FORMS)
    body = rpc("tools/call", {**other, "requestState": await state(), "inputResponses": yes})
    assert (await http.request(body=body, **headers)).json["error"]["data"]["code"] == "approval.denied"
    stranger = f"Bearer {gateway.tokens.create('stranger')}"
    body = rpc("tools/call", {**params, "requestState": await state(), "inputResponses": yes})
    refused = await http.request(body=body, Authorization=stranger, **headers)
    assert refused.json["error"]["data"]["code"] == "approval.denied"
    body = rpc("tools/call", {**params, "requestState": "approval.made-up", "inputResponses": yes})
    assert (await http.request(body=body, **headers)).json["error"]["data"]["code"] == "approval.timeout"


@pytest.mark.parametrize(("yes", "code"), [(True, None), (False, "approval.denied")])
async def test_what_no_client_can_ask_about_is_held_until_the_operator_answers(
    http: Http, settings: Settings, world: World, yes: bool, code: str | None
) -> None:
    session = await http.initialize()
    call = asyncio.create_task(http.call(session, "tools/call", tool_call("echo", {"what": "this"})))
    await until(lambda: bool(held_calls(settings.approvals_dir)), "a held call")
    [facts] = held_calls(settings.approvals_dir)
    assert (facts["server"], facts["tool"], facts["principal"]) == ("alpha", "echo", "default")
    assert json.loads(facts["arguments"]) == {"what": "this"}
    assert facts["because"] == [{"policy": "own.ask", "reason": "echo needs a second look"}]
    assert (settings.approvals_dir / f"{facts['id']}.json").stat().st_mode & 0o077 == 0
    answer(settings.approvals_dir, facts["id"], yes)
    done = await call
    if code is None:
        assert done["result"]["structuredContent"] == {"what": "this"}
    else:
        assert done["error"]["data"]["code"] == code
    assert held_calls(settings.approvals_dir) == []
    assert list(settings.approvals_dir.iterdir()) == []
    assert [r["event"] for r in world.records if r["kind"] == "approval"] == ["held", "approved" if yes else "denied"]


async def test_a_policy_for_the_operator_is_not_the_client_s_user_to_lift(
    http: Http, gateway: Gateway, settings: Settings
) -> None:
    gateway.decide_by(by("operator"))
    session = await http.initialize(capabilities=FORMS)
    call = asyncio.create_task(http.call(session, "tools/call", tool_call("echo")))
    await until(lambda: bool(held_calls(settings.approvals_dir)), "a held call")
    answer(settings.approvals_dir, held_calls(settings.approvals_dir)[0]["id"], True)
    assert "result" in await call


async def test_a_held_call_that_nobody_answers_is_refused(settings: Settings, world: World) -> None:
    hurried = settings.model_copy(update={"approval_deadline_s": 0.3})
    async with serving(hurried, world) as (gateway, http):
        gateway.decide_by(by("operator"))
        session = await http.initialize()
        done = await http.call(session, "tools/call", tool_call("echo"))
        assert done["error"]["data"]["code"] == "approval.timeout"
        assert world.started == []


async def test_a_client_that_gives_up_takes_its_held_call_with_it(
    http: Http, gateway: Gateway, settings: Settings
) -> None:
    gateway.decide_by(by("operator"))
    session = await http.initialize()
    body = rpc("tools/call", tool_call("echo"), "c")
    async with http.events(body=body, Mcp_Session_Id=session):
        await until(lambda: bool(held_calls(settings.approvals_dir)), "a held call")
        found = gateway.sessions.get(session, operator(gateway))
        assert found is not None
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "c"}}
        await http.request(body=note, Mcp_Session_Id=session)
        await until(lambda: not found.calls, "the end of the call")
    assert held_calls(settings.approvals_dir) == []


async def test_other_calls_go_on_while_one_is_held(http: Http, gateway: Gateway, settings: Settings) -> None:
    gateway.decide_by(by("operator"))
    session = await http.initialize()
    call = asyncio.create_task(http.call(session, "tools/call", tool_call("echo")))
    await until(lambda: bool(held_calls(settings.approvals_dir)), "a held call")
    assert "result" in await http.call(session, "tools/call", tool_call("counter"), 2)
    answer(settings.approvals_dir, held_calls(settings.approvals_dir)[0]["id"], False)
    await call


async def test_a_person_answers_on_the_command_line(
    http: Http, gateway: Gateway, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("HM_HOME", str(settings.home))

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            main(("approve", *words))
        return int(left.value.code or 0), capsys.readouterr().out

    gateway.decide_by(by("operator"))
    session = await http.initialize()
    call = asyncio.create_task(http.call(session, "tools/call", tool_call("echo", {"x": "\u202e\x1b[2J"})))
    await until(lambda: bool(held_calls(settings.approvals_dir)), "a held call")
    held = held_calls(settings.approvals_dir)[0]["id"]
    _, said = await asyncio.to_thread(run, "ls")
    assert held in said
    assert "echo of alpha, for default (raw)" in said
    assert "\x1b" not in said
    assert (await asyncio.to_thread(run, "yes", "nobody"))[0] == 1
    assert (await asyncio.to_thread(run, "yes", held))[0] == 0
    assert "result" in await call
