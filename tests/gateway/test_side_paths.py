"""Ways to a server beside a plain call are held to what a call is: listening, and interceptors that are servers."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from gateway.gateway import Gateway
from harbourmaster.core.digests import sha256
from harbourmaster.core.settings import Settings
from policies.authorization import CallPolicies, builtin_files
from tests.gateway import backend
from tests.gateway.harness import Http, World, enveloped, locked, rpc, serving, tool_call, until
from tests.gateway.test_interceptors import TOKEN, with_config

ASK = (
    '@id("own.ask") @reason("notes are private") @approval("operator") '
    'forbid (principal, action == Action::"read", resource == Resource::"alpha/note://one");'
)


async def listens_to(http: Http, *uris: str) -> list[str]:
    """Those of ``uris`` that the stream agrees to tell of."""
    params = enveloped({"notifications": {"resourceSubscriptions": list(uris)}})
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    async with http.events(body=rpc("subscriptions/listen", params), **headers) as following:
        agreed = await following()
    return [uri for uri in uris if uri in json.dumps(agreed)]


async def test_listening_to_what_wants_a_person_s_yes_is_refused_and_starts_nothing(
    http: Http, gateway: Gateway, world: World
) -> None:
    gateway.decide_by(CallPolicies((*builtin_files(), ("own", ASK))))
    assert await listens_to(http, "note://one") == []
    assert world.started == []
    [record] = world.calls()
    assert (record["method"], record["outcome"], record["code"]) == (
        "resources/subscribe",
        "refused",
        "approval.denied",
    )


async def test_a_credential_in_an_address_that_is_listened_to_is_not_sent(http: Http, world: World) -> None:
    uri = f"note://by/{TOKEN}"
    assert await listens_to(http, uri) == []
    assert world.started == []
    [record] = world.calls()
    assert (record["code"], record["notes"]) == ("secret.in_arguments", ["secret-in-arguments:github-token"])
    assert TOKEN not in json.dumps(world.records)


async def test_listening_counts_against_the_caller_s_limits(settings: Settings, world: World) -> None:
    limits = ({"principal": "*", "per_minute": 0.001, "burst": 1},)
    async with serving(settings.model_copy(update={"gateway_limits": limits}), world) as (_, http):
        assert await listens_to(http, "note://one") == ["note://one"]
        assert await listens_to(http, "note://one") == []
        assert world.calls()[-1]["code"] == "limit.rate"


# -- what a client answers to a server's question

ABLE = {"sampling": {}, "elicitation": {}, "roots": {}}
LEAK = {"action": "accept", "content": {"key": TOKEN}}


async def answered(http: Http, session: str, result: Any) -> Any:
    """A call of a tool that asks, answered with ``result``: its final message."""
    async with http.events("POST", rpc("tools/call", tool_call("elicit")), Mcp_Session_Id=session) as following:
        question = await following()
        await http.request(body={"jsonrpc": "2.0", "id": question["id"], "result": result}, Mcp_Session_Id=session)
        return await following()


async def test_a_credential_in_an_answer_is_not_sent_and_the_server_hears_so(http: Http, world: World) -> None:
    session = await http.initialize(capabilities=ABLE)
    told = json.loads((await answered(http, session, LEAK))["result"]["content"][0]["text"])
    assert told["data"]["code"] == "secret.in_arguments"
    assert TOKEN not in json.dumps(told)
    assert world.calls()[-1]["notes"] == ["secret-in-answer:github-token"]
    kept = {"action": "accept", "content": {"name": "Ada"}}
    assert json.loads((await answered(http, session, kept))["result"]["content"][0]["text"]) == kept


async def test_a_modern_server_s_question_is_not_answered_with_one_either(settings: Settings) -> None:
    world = World({"alpha": locked("alpha", backend.listing("alpha", modern=True))})
    async with serving(settings, world) as (_, http):
        session = await http.initialize(capabilities=ABLE)
        assert (await answered(http, session, LEAK))["error"]["data"]["code"] == "secret.in_arguments"


async def test_a_modern_client_may_answer_again_without_it(http: Http) -> None:
    capabilities = {"io.modelcontextprotocol/clientCapabilities": ABLE}

    async def ask(**more: Any) -> Any:
        return (await http.modern("tools/call", tool_call("elicit", _meta=capabilities, **more))).json

    first = (await ask())["result"]
    ((key, _),) = first["inputRequests"].items()
    refused = await ask(inputResponses={key: LEAK}, requestState=first["requestState"])
    assert refused["error"]["data"]["code"] == "secret.in_arguments"
    done = await ask(inputResponses={key: {"action": "decline"}}, requestState=first["requestState"])
    assert json.loads(done["result"]["content"][0]["text"]) == {"action": "decline"}


async def test_answers_are_passed_on_where_credentials_in_arguments_are(settings: Settings, world: World) -> None:
    for what in ("report", "off"):
        async with with_config(settings, world, secrets_in_arguments=what, secrets_in_results="off") as (_, http, _own):
            session = await http.initialize(capabilities=ABLE)
            assert json.loads((await answered(http, session, LEAK))["result"]["content"][0]["text"]) == LEAK


# -- an interceptor in a sandbox


@pytest.fixture
def guarded() -> World:
    listing = backend.listing("guard", tools=[backend.tool("intercept")])
    run = {"command": [json.dumps({"tools": [backend.tool("intercept")]})]}
    return World({"alpha": locked("alpha"), "guard": locked("guard", listing, run=run)})


GUARD = {"name": "boxed", "when": "before", "server": "guard", "servers": ["alpha"], "timeout_s": 20}


async def test_an_interceptor_that_is_locked_anew_goes_on_intercepting(settings: Settings, guarded: World) -> None:
    async with with_config(settings, guarded, custom=[GUARD]) as (gateway, http, session):
        assert "result" in await http.call(session, "tools/call", tool_call("echo", {"text": "fine"}))
        newer = dataclasses.replace(guarded.servers["guard"], image=sha256(b"newer"), image_id=sha256(b"its id"))
        guarded.servers = {**guarded.servers, "guard": newer}
        guarded.changed = guarded.servers
        await until(lambda: gateway.views.lock["guard"].image == newer.image, "the new lock")
        assert "result" in await http.call(session, "tools/call", tool_call("echo", {"text": "fine"}), 2)
        refused = await http.call(session, "tools/call", tool_call("echo", {"text": "forbidden"}), 3)
        assert refused["error"]["data"]["code"] == "hook.refused"
        await until(lambda: guarded.running == 2, "the end of the interceptor's old sandbox")


async def test_an_interceptor_whose_sandbox_died_is_asked_in_another(settings: Settings, guarded: World) -> None:
    async with with_config(settings, guarded, custom=[GUARD]) as (_, http, session):
        assert "result" in await http.call(session, "tools/call", tool_call("echo", {"text": "fine"}))
        guard = guarded.started[0]
        guard.process.kill()
        await guard.process.wait()
        assert "result" in await http.call(session, "tools/call", tool_call("echo", {"text": "fine"}), 2)
        refused = await http.call(session, "tools/call", tool_call("echo", {"text": "forbidden"}), 3)
        assert refused["error"]["data"]["code"] == "hook.refused"


async def test_an_interceptor_that_is_locked_no_more_stops_calls(settings: Settings, guarded: World) -> None:
    async with with_config(settings, guarded, custom=[GUARD]) as (gateway, http, session):
        assert "result" in await http.call(session, "tools/call", tool_call("echo", {"text": "fine"}))
        left: dict[str, Any] = {"alpha": guarded.servers["alpha"]}
        guarded.changed = left
        await until(lambda: "guard" not in gateway.views.lock, "the new lock")
        refused = await http.call(session, "tools/call", tool_call("echo", {"text": "fine"}), 2)
        assert refused["error"]["data"]["code"] == "hook.failed"
