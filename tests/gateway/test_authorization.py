"""Who may call what, over HTTP: tokens, policies, limits, and what is not offered to whom."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.authorization.errors import RateLimited, TooManyAtOnce
from gateway.authorization.quotas import LimitRule, Quotas, enter, leave
from gateway.authorization.things import SILENT, caller
from gateway.gateway import Gateway
from gateway.lock import write_lock
from gateway.principals import LOCAL, Principal
from gateway.tokens import TokenStore
from harbourmaster.cli import main
from harbourmaster.core.errors import ConfigError
from harbourmaster.core.settings import Settings
from policies.authorization import CallPolicies, Thing
from tests.gateway import backend
from tests.gateway.harness import Http, World, locked, rpc, serving, tool_call, until

TOOLS = [
    backend.tool("counter", annotations={"readOnlyHint": True}),
    backend.tool("echo", annotations={"destructiveHint": True}),
]


@pytest.fixture
def world() -> World:
    listed = backend.listing("alpha", tools=TOOLS)
    alpha = locked("alpha", listed, run={"command": [json.dumps({"tools": TOOLS})]})
    return World({"alpha": alpha, "beta": locked("beta")})


def client(http: Http, gateway: Gateway, name: str, **limits: Any) -> Http:
    return Http(http.port, gateway.tokens.create(name, **limits))


async def names(http: Http, method: str = "tools/list", key: str = "tools", name: str = "name") -> set[str]:
    session = await http.initialize()
    return {item[name] for item in (await http.call(session, method))["result"][key]}


async def test_what_may_not_be_called_is_not_listed_and_a_call_says_why(
    http: Http, gateway: Gateway, world: World
) -> None:
    reader = client(http, gateway, "reader", scopes=["list", "call:read-only"])
    offered = await names(reader)
    assert "alpha__counter" in offered
    assert not offered & {"alpha__echo", "beta__echo", "hang"}
    assert await names(http) > {"alpha__counter", "alpha__echo", "beta__echo"}
    session = await reader.initialize()
    assert (await reader.call(session, "tools/call", tool_call("alpha__counter")))["result"]["content"]
    error = (await reader.call(session, "tools/call", tool_call("alpha__echo")))["error"]
    assert error["data"]["code"] == "auth.denied"
    assert "default-deny" in error["message"]
    record = world.calls()[-1]
    assert (record["outcome"], record["code"], record["policies"]) == ("refused", "auth.denied", ["default-deny"])


async def test_a_token_of_one_server_sees_and_reaches_nothing_of_another(http: Http, gateway: Gateway) -> None:
    alone = client(http, gateway, "alone", servers=["beta"])
    assert not await names(alone) & {"alpha__counter", "alpha__echo"}
    assert await names(alone) >= {"beta__counter", "beta__echo", "hang"}
    session = await alone.initialize()
    for method, params in (
        ("tools/call", tool_call("alpha__counter")),
        ("prompts/get", {"name": "alpha__greet"}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "alpha__greet"}, "argument": {}}),
    ):
        reply = await alone.call(session, method, params)
        assert reply["error"]["data"]["code"] == "auth.denied", reply
    body = rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}}, 0)
    said = (await alone.request(body=body)).json["result"]["instructions"]
    assert "Use beta well." in said
    assert "alpha" not in said


async def test_modern_clients_are_offered_no_more(http: Http, gateway: Gateway) -> None:
    alone = client(http, gateway, "alone", servers=["beta"])
    listed = {tool["name"] for tool in (await alone.modern("tools/list")).json["result"]["tools"]}
    assert listed >= {"beta__counter", "hang"}
    assert not listed & {"alpha__counter", "alpha__echo"}
    assert "alpha" not in (await alone.modern("server/discover")).json["result"]["instructions"]
    refused = (await alone.modern("tools/call", tool_call("alpha__counter"))).json
    assert refused["error"]["data"]["code"] == "auth.denied"


async def test_resources_prompts_and_subscriptions_need_their_own_scopes(http: Http, gateway: Gateway) -> None:
    caller = client(http, gateway, "caller", scopes=["list", "call"])
    session = await caller.initialize()
    assert (await caller.call(session, "resources/list"))["result"]["resources"] == []
    assert (await caller.call(session, "prompts/list"))["result"]["prompts"] == []
    for method in ("resources/read", "resources/subscribe"):
        reply = await caller.call(session, method, {"uri": "alpha+note://one"})
        assert "error" in reply
    everything = await names(http, "resources/list", "resources", "uri")
    uri = sorted(everything)[0]
    reply = await caller.call(session, "resources/read", {"uri": uri})
    assert reply["error"]["data"]["code"] == "auth.denied"


async def test_a_token_is_good_from_the_moment_it_is_made(http: Http, gateway: Gateway) -> None:
    """By another process, as `hm client connect` makes it: the client that it is for starts at once."""
    elsewhere = TokenStore(gateway.settings.tokens_file)
    fresh = Http(http.port, elsewhere.create("laptop"))
    assert await fresh.initialize()
    with pytest.raises(AssertionError):
        await Http(http.port, "hm_nobody").initialize()


async def test_a_session_follows_the_rights_of_the_token_it_is_used_with(http: Http, gateway: Gateway) -> None:
    laptop = client(http, gateway, "laptop")
    session = await laptop.initialize()
    gateway.tokens.revoke("laptop")
    again = client(http, gateway, "laptop", scopes=["list"])
    response = await again.request(body=rpc("ping"), Mcp_Session_Id=session)
    assert response.status == 404  # the name was given away again: it is not the same caller


async def test_a_token_that_has_ended_is_refused(http: Http, gateway: Gateway) -> None:
    past = client(http, gateway, "past", expires="2001-01-01T00:00:00Z")
    response = await past.request(body=rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}}))
    assert (response.status, response.json["error"]["data"]["code"]) == (401, "auth.expired")
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


async def test_new_policies_apply_while_the_gateway_runs_and_clients_hear_of_them(
    http: Http, gateway: Gateway, settings: Settings
) -> None:
    session = await http.initialize()
    assert "result" in await http.call(session, "tools/call", tool_call("alpha__counter"))
    folder = settings.home / "policies" / "calls"
    folder.mkdir(parents=True)
    (folder / "own.cedar").write_text(
        '@id("own.closed") @reason("it is closed today") forbid (principal, action, resource in McpServer::"alpha");'
    )
    before = gateway.policies

    async with http.events("GET", Mcp_Session_Id=session, Accept="text/event-stream") as following:
        await until(lambda: gateway.policies is not before, "the new policies")
        assert (await following())["method"].endswith("list_changed")
    error = (await http.call(session, "tools/call", tool_call("alpha__counter")))["error"]
    assert "it is closed today (own.closed)" in error["message"]
    assert not any(name.startswith("alpha__") for name in await names(http))


async def test_policies_that_cannot_be_read_leave_the_old_ones_in_force(
    http: Http, gateway: Gateway, settings: Settings
) -> None:
    folder = settings.home / "policies" / "calls"
    folder.mkdir(parents=True)
    before = gateway.policies
    (folder / "own.cedar").write_text("nonsense")
    await gateway.look_for_changes()
    assert gateway.policies is before
    (folder / "own.cedar").write_text('@id("own") forbid (principal, action, resource);')
    await gateway.look_for_changes()
    assert gateway.policies is not before


async def test_a_policy_about_arguments_decides_each_call(http: Http, gateway: Gateway) -> None:
    text = (
        '@id("own.args") forbid (principal, action == Action::"call", resource) '
        'when { context.arguments like "*production*" };'
    )
    gateway.decide_by(CallPolicies((*CallPolicies.builtin().set.files, ("own", text))))
    session = await http.initialize()
    for arguments, fine in (({"db": "test"}, True), ({"db": "production"}, False), ({"db": "test"}, True)):
        reply = await http.call(session, "tools/call", tool_call("beta__echo", arguments))
        assert ("result" in reply) is fine


def test_three_thousand_tools_are_sorted_out_by_kind_and_not_one_by_one(settings: Settings) -> None:
    """What is asked of Cedar grows with servers, not with tools: no policy of ours asks for a tool's name."""
    policies = CallPolicies.builtin()
    asked: list[int] = []
    whole = policies._each_could
    policies._each_could = lambda caller, action, things: asked.append(len(things)) or whole(caller, action, things)  # type: ignore[method-assign]
    things = [Thing("Tool", f"s{n // 10}", f"t{n}", "built", SILENT) for n in range(3000)]
    assert all(policies.could_allow(caller(LOCAL), "call", things))
    assert asked == [1]
    own = CallPolicies(
        (*policies.set.files, ("own", '@id("own") forbid (principal, action, resource in McpServer::"s7");'))
    )
    assert own.could_allow(caller(LOCAL), "call", things).count(False) == 10
    one = caller(Principal("one", "one", servers=frozenset({"s7", "s8"})))
    assert policies.could_allow(one, "call", things).count(True) == 20


# -- limits


def rule(**limits: Any) -> Quotas:
    return Quotas(LimitRule.read([limits]))


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    quota = rule(per_minute=60, burst=2).of("ci", "db")
    for _ in range(2):
        enter(quota, 100.0)
    with pytest.raises(RateLimited) as refused:
        enter(quota, 100.0)
    assert refused.value.retry_after_s == 1
    enter(quota, 101.0)
    with pytest.raises(RateLimited):
        enter(quota, 101.5)


def test_what_runs_at_once_is_counted_and_given_back() -> None:
    quota = rule(concurrent=1).of("ci", "db")
    enter(quota, 0)
    with pytest.raises(TooManyAtOnce):
        enter(quota, 0)
    leave(quota)
    enter(quota, 0)


def test_a_refusal_by_one_rule_gives_back_what_another_counted() -> None:
    quotas = Quotas(LimitRule.read([{"concurrent": 1}, {"per_minute": 1, "burst": 1}])).of("ci", "db")
    enter(quotas, 0)
    leave(quotas)
    with pytest.raises(RateLimited):
        enter(quotas, 1)
    assert [quota.running for quota in quotas] == [0, 0]


def test_rules_are_for_whom_and_what_they_name_and_each_caller_has_their_own() -> None:
    quotas = rule(principal="ci-*", server="db", concurrent=1)
    assert quotas.of("laptop", "db") == ()
    assert quotas.of("ci-1", "time") == ()
    enter(quotas.of("ci-1", "db"), 0)
    enter(quotas.of("ci-2", "db"), 0)


@pytest.mark.parametrize("row", [{}, {"per_minute": 0}, {"burst": 3}, {"concurent": 3}, {"concurrent": 0}, 7])
def test_rules_that_limit_nothing_or_are_misspelt_are_refused(row: Any) -> None:
    with pytest.raises(ConfigError):
        LimitRule.read([row])


async def test_who_calls_too_often_is_told_when_to_come_back(settings: Settings, world: World) -> None:
    limited = settings.model_copy(update={"gateway_limits": ({"server": "alpha", "per_minute": 2, "burst": 1},)})
    async with serving(limited, world) as (_, http):
        session = await http.initialize()
        assert "result" in await http.call(session, "tools/call", tool_call("alpha__counter"))
        response = await http.request(body=rpc("tools/call", tool_call("alpha__counter")), Mcp_Session_Id=session)
        error = response.json["error"]
        assert (error["code"], error["data"]["code"]) == (-32012, "limit.rate")
        assert int(response.headers["retry-after"]) == error["data"]["retry_after_s"] == 30
        assert "result" in await http.call(session, "tools/call", tool_call("beta__counter"))


async def test_calls_at_once_are_limited_per_caller_and_free_again_when_they_end(
    settings: Settings, world: World
) -> None:
    limited = settings.model_copy(update={"gateway_limits": ({"concurrent": 1},)})
    async with serving(limited, world) as (gateway, http):
        session = await http.initialize()
        async with http.events(body=rpc("tools/call", tool_call("beta__hang"), "h"), Mcp_Session_Id=session):
            found = gateway.sessions.get(session, gateway.tokens.principal(http.token.encode()))  # type: ignore[arg-type]
            assert found is not None
            await until(lambda: bool(found.calls), "the first call")
            reply = await http.call(session, "tools/call", tool_call("beta__counter"), 2)
            assert reply["error"]["data"]["code"] == "limit.concurrent"
            note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "h"}}
            await http.request(body=note, Mcp_Session_Id=session)
            await until(lambda: not found.calls, "its end")
        assert "result" in await http.call(session, "tools/call", tool_call("beta__counter"), 3)


# -- hm token, hm policy


def test_tokens_and_their_rights_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("HM_HOME", str(tmp_path))

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            main(words)
        return int(left.value.code or 0), capsys.readouterr().out

    made = run(
        "token", "create", "ci", "--scope", "list", "--scope", "call:read-only", "--server", "time", "--expires", "90d"
    )
    assert made[1].startswith("hm_")
    row = json.loads(run("token", "ls", "--json")[1])[0]
    assert (row["scopes"], row["servers"], row["profiles"]) == (["call:read-only", "list"], ["time"], [])
    assert row["expires"] > row["created"]
    assert run("token", "create", "x", "--scope", "everything")[0] == 2
    assert run("token", "create", "x", "--expires", "yesterday")[0] == 2
    assert run("token", "create", "x", "--expires", "2001-01-01")[0] == 2
    assert run("token", "revoke", "ci")[0] == 0


def test_a_person_asks_whether_a_token_may_call_a_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, world: World
) -> None:
    monkeypatch.setenv("HM_HOME", str(tmp_path))
    write_lock(tmp_path / "harbour.lock", world.servers)

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            main(words)
        return int(left.value.code or 0), capsys.readouterr().out

    status, said = run("policy", "can", "alpha.counter", "--scope", "call:read-only")
    assert status == 0
    assert "calls.scope-call-read-only" in said
    status, said = run("policy", "can", "alpha.echo", "--scope", "call:read-only", "--json")
    assert (status, json.loads(said)["reasons"][0]["policy"]) == (1, "default-deny")
    assert run("policy", "can", "alpha.echo")[0] == 0
    assert run("policy", "explain", "calls.other-server")[0] == 0
    assert "calls.operator" in run("policy", "ls")[1]


# -- config.toml


@pytest.fixture
def documented(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Every TOML example of the three pages in one config.toml; the function they name is one that exists."""
    docs = Path(__file__).parents[2] / "docs"
    pages = [(docs / name).read_text() for name in ("authorization.md", "interceptors.md", "telemetry.md")]
    examples = [block for page in pages for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]
    assert len(examples) == 5
    home.mkdir(parents=True, exist_ok=True)
    text = "\n".join(examples).replace("acme.guards:personal", "tests.gateway.hooks_under_test:watch")
    (home / "config.toml").write_text(text)
    monkeypatch.setenv("HM_HOME", str(home))
    return Settings.load()


async def test_the_examples_of_the_documentation_are_understood(documented: Settings, world: World) -> None:
    async with serving(documented, world) as (_, http):
        said = (await http.request("GET", "/.well-known/oauth-protected-resource")).json
        assert said["resource"] == "https://mcp.example.org/mcp"


def test_the_policies_of_the_documentation_are_valid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "authorization.md").read_text()
    blocks = re.findall(r"```cedar\n(.*?)```", page, re.DOTALL)
    policies = CallPolicies((*CallPolicies.builtin().set.files, *((f"docs{n}", text) for n, text in enumerate(blocks))))
    assert len(policies.set.policies) == len(CallPolicies.builtin().set.policies) + 4
