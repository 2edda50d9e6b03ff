"""Callers with a token of their own who want more: to act unrecorded, to give another's yes, to take all the room."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.authorization.approvals import MAX_ASKED, MAX_SHOWN
from gateway.authorization.held_calls import answer, held_calls
from gateway.gateway import Gateway
from gateway.limits import LIMITS
from gateway.listen import MAX_URIS
from gateway.principals import Principal
from gateway.profiles.files import ProfileFiles
from gateway.record import MAX_TOOL
from gateway.sessions import SHARE, Sessions
from harbourmaster.core.audit_chain import checked
from harbourmaster.core.settings import Settings
from policies.authorization import CallPolicies, builtin_files
from tests.gateway.harness import Http, World, enveloped, rpc, serving, tool_call, until

YES = {"approval": {"action": "accept", "content": {"approve": True}}}
FORMS = {"elicitation": {}}
# Who must say yes depends on the profile: the caller's own user in one, the operator in the other
TWO = "\n".join(
    f'@id("own.{who}") @reason("look") @approval("{who}") forbid (principal, action == Action::"call", resource) '
    f'when {{ context.profile == "{profile}" }};'
    for who, profile in (("client", "easy"), ("operator", "strict"))
)


class Strict(World):
    """Takes the records that the audit takes."""

    def append(self, record: dict[str, Any]) -> None:
        super().append(checked(record))


@pytest.fixture
def world(world: World) -> World:
    return Strict(world.servers)


@pytest.fixture
async def served(settings: Settings, world: World) -> AsyncIterator[tuple[Gateway, Http]]:
    for name in ("easy", "strict"):
        settings.profiles_dir.mkdir(parents=True, exist_ok=True)
        ProfileFiles(settings.profiles_dir).path(name).write_text(json.dumps({"servers": {"alpha": None}}))
    async with serving(settings, world) as pair:
        yield pair


# -- on record


@pytest.mark.parametrize("name", ["x" * 5000, "\ud83d", "é" * 2000, "x" * 100_000 + "\ud83d"])
async def test_no_name_of_a_resource_keeps_a_call_out_of_the_audit(http: Http, world: World, name: str) -> None:
    session = await http.initialize()
    reply = await http.call(session, "resources/read", {"uri": f"note://by/{name}"})
    assert reply["result"]["contents"], "the server was asked, so it must be on record"
    [record] = world.calls()
    assert (record["outcome"], record["method"]) == ("ok", "resources/read")
    assert record["tool"].startswith(f"note://by/{name[:1]}".encode("ascii", "ignore").decode())
    assert len(record["tool"]) < MAX_TOOL + 200


async def test_a_refusal_of_such_a_call_is_on_record_too(http: Http, world: World, gateway: Gateway) -> None:
    token = gateway.tokens.create("narrow", scopes=["list"])
    other = Http(http.port, token)
    session = await other.initialize()
    reply = await other.call(session, "resources/read", {"uri": "note://by/" + "x" * 5000})
    assert reply["error"]["data"]["code"] == "auth.denied"
    assert world.calls()[-1]["outcome"] == "refused"


async def test_a_stream_that_watches_thousands_of_resources_is_refused_at_once(http: Http, world: World) -> None:
    uris = [f"note://by/{n}" for n in range(MAX_URIS + 1)]
    wanted = {"notifications": {"resourceSubscriptions": uris}}
    reply = await http.modern("subscriptions/listen", wanted)
    assert reply.json["error"]["code"] == -32602
    assert world.calls() == []


# -- another's yes


def decide(gateway: Gateway) -> None:
    gateway.decide_by(CallPolicies((*builtin_files(), ("own", TWO))))


async def ask(http: Http, params: dict[str, Any]) -> Any:
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": params["name"]}
    return (await http.request(body=rpc("tools/call", params), **headers)).json


async def test_a_yes_that_the_caller_may_give_is_not_the_operator_s(
    http: Http, gateway: Gateway, settings: Settings, world: World
) -> None:
    decide(gateway)
    params = enveloped(tool_call("echo", {"what": "this"}), FORMS)
    asked = (await ask(http.at("easy"), params))["result"]
    again = {**params, "requestState": asked["requestState"], "inputResponses": YES}
    refused = await ask(http.at("strict"), again)
    assert refused["error"]["data"]["code"] == "approval.denied", "it was asked in another profile"
    assert world.started == []


async def test_what_the_operator_has_to_answer_waits_for_them_whatever_a_caller_says(
    http: Http, gateway: Gateway, settings: Settings, world: World
) -> None:
    decide(gateway)
    params = enveloped(tool_call("echo", {"what": "this"}), FORMS)
    asked = (await ask(http.at("easy"), params))["result"]
    both = TWO.replace('"strict"', '"easy"')  # the operator changed their mind meanwhile
    gateway.decide_by(CallPolicies((*builtin_files(), ("own", both))))
    again = {**params, "requestState": asked["requestState"], "inputResponses": YES}
    waiting = asyncio.create_task(ask(http.at("easy"), again))
    await until(lambda: bool(held_calls(settings.approvals_dir)), "a held call")
    [held] = held_calls(settings.approvals_dir)
    answer(settings.approvals_dir, held["id"], False)
    assert (await waiting)["error"]["data"]["code"] == "approval.denied"
    assert world.started == []


async def test_a_call_that_was_forbidden_while_it_waited_for_a_yes_is_not_made(
    http: Http, gateway: Gateway, settings: Settings, world: World
) -> None:
    decide(gateway)
    waiting = asyncio.create_task(ask(http.at("strict"), enveloped(tool_call("echo", {}))))
    await until(lambda: bool(held_calls(settings.approvals_dir)), "a held call")
    [held] = held_calls(settings.approvals_dir)
    never = '@id("own.never") @reason("no more") forbid (principal, action == Action::"call", resource);'
    gateway.decide_by(CallPolicies((*builtin_files(), ("own", never))))
    answer(settings.approvals_dir, held["id"], True)
    assert (await waiting)["error"]["data"]["code"] == "auth.denied"
    assert world.started == []


async def test_arguments_that_are_not_shown_to_their_end_say_so_first(
    http: Http, gateway: Gateway, settings: Settings
) -> None:
    decide(gateway)
    arguments = {"a": "harmless " * MAX_SHOWN, "z": "rm -rf /"}
    waiting = asyncio.create_task(ask(http.at("strict"), enveloped(tool_call("echo", arguments))))
    await until(lambda: bool(held_calls(settings.approvals_dir)), "a held call")
    [held] = held_calls(settings.approvals_dir)
    assert "rm -rf" not in held["arguments"]
    assert held["arguments"].startswith("!! ")
    assert "MORE CHARACTERS ARE NOT SHOWN" in held["arguments"].splitlines()[0]
    answer(settings.approvals_dir, held["id"], False)
    await waiting


async def test_a_caller_leaves_so_many_questions_open_and_no_more(http: Http, gateway: Gateway) -> None:
    decide(gateway)
    params = enveloped(tool_call("echo", {}), FORMS)
    states = [(await ask(http.at("easy"), params))["result"]["requestState"] for _ in range(MAX_ASKED + 1)]
    oldest = await ask(http.at("easy"), {**params, "requestState": states[0], "inputResponses": YES})
    assert oldest["error"]["data"]["code"] == "approval.timeout", "it made room"
    newest = await ask(http.at("easy"), {**params, "requestState": states[-1], "inputResponses": YES})
    assert newest["result"]["resultType"] == "complete"


# -- all the room


async def test_who_opens_sessions_without_end_loses_their_own_and_nobody_else_s(gateway: Gateway) -> None:
    loop, view = asyncio.get_running_loop(), gateway.view("default")
    sessions = Sessions()
    quiet, greedy = Principal("quiet", "q"), Principal("greedy", "g")
    sessions.create(quiet, loop, view).used = -1e9  # longest unused of all
    for number in range(SHARE):
        assert sessions.to_evict(greedy) is None
        sessions.create(greedy, loop, view).used = float(number)
    for number in range(3):
        victim = sessions.to_evict(greedy)
        assert victim is not None
        assert (victim.principal, victim.used) == (greedy, float(number))
        sessions.remove(victim)
        sessions.create(greedy, loop, view).used = 1e9
    assert sessions.to_evict(quiet) is None, "there is room for others"
    assert LIMITS.sessions - SHARE > 100


def test_arguments_of_everyday_length_are_shown_whole() -> None:
    from gateway.authorization.approvals import _shown

    assert json.loads(_shown({"arguments": {"a": "b" * 100}})) == {"a": "b" * 100}


async def test_a_client_that_goes_by_thousands_of_names_takes_nobody_else_s_place(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.gateway.LIMITS", replace(LIMITS, sessions=20))
    quiet, greedy = Principal("quiet", "q"), Principal("greedy", "g")
    first = gateway.modern_client(quiet, {"name": "one"})
    for number in range(100):
        gateway.modern_client(greedy, {"name": str(number)})
    assert len(gateway._modern) <= 20
    assert gateway.modern_client(quiet, {"name": "one"}) is first


@pytest.mark.parametrize("part", ["clientInfo", "capabilities"])
async def test_who_has_too_much_to_say_about_themselves_is_not_listened_to(
    http: Http, gateway: Gateway, part: str
) -> None:
    large = {"x": "y" * LIMITS.introduction_bytes}
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    reply = await http.request(body=rpc("initialize", {**hello, part: large}))
    assert reply.json["error"]["code"] == -32602
    assert len(gateway.sessions) == 0
    prefix = "io.modelcontextprotocol/"
    meta = {f"{prefix}clientInfo" if part == "clientInfo" else f"{prefix}clientCapabilities": large}
    modern = await http.modern("tools/list", {"_meta": meta})
    assert modern.json["error"]["code"] == -32602
    assert gateway._modern == {}


async def test_decisions_about_names_that_callers_make_up_are_not_kept_for_ever(http: Http, gateway: Gateway) -> None:
    session = await http.initialize()
    for number in range(3):
        assert "result" in await http.call(session, "resources/read", {"uri": f"note://by/{number}" + "x" * 3000})
    [client] = list(gateway.sessions)
    assert all(len(name) < 1000 for _, _, name in client.rights.decisions)


async def test_subscriptions_are_so_many_and_so_long(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.forward.LIMITS", replace(LIMITS, subscriptions=3, uri_bytes=100))
    session = await http.initialize()

    async def code(uri: str) -> Any:
        reply = await http.call(session, "resources/subscribe", {"uri": uri})
        return reply.get("error", {}).get("data", {}).get("code")

    assert await code("note://by/" + "x" * 100) == "gateway.too_many_subscriptions"
    assert [await code(f"note://by/{n}") for n in range(4)] == [None] * 3 + ["gateway.too_many_subscriptions"]
    await http.call(session, "resources/unsubscribe", {"uri": "note://by/1"})
    assert await code("note://by/4") is None
