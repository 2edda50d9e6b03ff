"""Profiles over Streamable HTTP, bytes on the wire."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.gateway import Gateway
from gateway.profiles.errors import ProfileInvalid
from gateway.profiles.files import ProfileFiles
from harbourmaster.core.settings import Settings
from tests.gateway import backend
from tests.gateway.harness import Http, World, locked, serving, tool_call, until
from tests.gateway.test_stdio import PROGRAM, ROOT, Child

CONFIG = {
    "command": ["--place", "{{place}}"],
    "env": {"PLACE": "{{gamma.place}}"},
    "schema": {
        "type": "object",
        "properties": {"place": {"type": "string", "enum": ["here", "there"]}},
        "required": ["place"],
    },
}
PROFILES = {
    "work": {"servers": {"alpha": {"tools": {"allow": ["e*", "counter"], "deny": ["elicit"]}}, "beta": None}},
    "home": {"servers": {"beta": {"tools": {"allow": ["whoami"]}}, "gone": None}},
    "broken": {"servers": {"alpha": {"tolls": {}}}},
}


def write(settings: Settings, name: str, body: Any) -> Path:
    settings.profiles_dir.mkdir(parents=True, exist_ok=True)
    path = ProfileFiles(settings.profiles_dir).path(name)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(body, indent=1))
    fresh.replace(path)
    return path


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Without spares, so that each sandbox is somebody's."""
    return settings.model_copy(update={"pool_spares": 0})


@pytest.fixture
def world() -> World:
    gamma = locked("gamma", enabled=False, run={"config": CONFIG, "command": ["--place", ""], "env": {"PLACE": ""}})
    return World({"alpha": locked("alpha"), "beta": locked("beta", enabled=False), "gamma": gamma})


@pytest.fixture
async def served(settings: Settings, world: World) -> AsyncIterator[tuple[Gateway, Http]]:
    for name, body in PROFILES.items():
        write(settings, name, body)
    async with serving(settings, world) as pair:
        yield pair


async def names(http: Http, session: str) -> set[str]:
    return {t["name"] for t in (await http.call(session, "tools/list"))["result"]["tools"]}


def text(reply: Any) -> str:
    return str(reply["result"]["content"][0]["text"])


async def test_each_path_lists_its_profile_s_tools_and_the_default_every_enabled_server_s(http: Http) -> None:
    plain, home = await http.initialize(), http.at("home")
    assert await names(http, plain) == {t["name"] for t in backend.TOOLS}
    assert await names(home, await home.initialize()) == {"whoami"}
    work = http.at("work")
    listed = await names(work, await work.initialize())
    assert {n for n in listed if n.startswith("alpha__")} == {"alpha__echo", "alpha__counter"}
    assert "beta__elicit" in listed


async def test_rules_about_tools_rename_nothing(settings: Settings, gateway: Gateway, http: Http) -> None:
    work = http.at("work")
    session = await work.initialize()
    assert "alpha__echo" in await names(work, session)
    write(settings, "work", {"servers": {"alpha": {"tools": {"allow": ["echo"]}}, "beta": {"tools": {"deny": ["*"]}}}})
    await until(lambda: "beta__echo" not in gateway.view("work").index.tools)
    assert await names(work, session) == {"alpha__echo"}


async def test_a_tool_that_a_profile_denies_cannot_be_called_under_any_of_its_names(http: Http, world: World) -> None:
    work = http.at("work")
    session = await work.initialize()
    for name in ("alpha__elicit", "alpha__whoami"):
        reply = await work.call(session, "tools/call", tool_call(name))
        assert reply["error"]["data"]["code"] == "gateway.unknown_tool"
    assert text(await work.call(session, "tools/call", tool_call("alpha__counter"))) == "1"
    assert len(world.started) == 1
    assert {(r["profile"], r["outcome"]) for r in world.calls()} == {("work", "refused"), ("work", "ok")}


async def test_a_session_of_one_profile_is_none_at_another_path(http: Http) -> None:
    session = await http.at("work").initialize()
    for other in (http, http.at("home")):
        for method in ("POST", "GET", "DELETE"):
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"} if method == "POST" else None
            response = await other.request(method, body=body, Mcp_Session_Id=session)
            assert (response.status, response.json["error"]["data"]["code"]) == (404, "session.unknown")
    assert await names(http.at("work"), session)


async def test_modern_clients_of_two_profiles_share_nothing(http: Http) -> None:
    for profile, name in (("work", "beta__counter"), ("default", "counter")):
        reply = await http.at(profile).modern("tools/call", tool_call(name))
        assert text(reply.json) == "1"
    assert (await http.at("home").modern("tools/call", tool_call("beta__counter"))).json["error"]["code"] == -32602


async def test_an_unknown_profile_is_not_found_and_a_broken_one_says_where(http: Http) -> None:
    for path in ("/mcp/nobody", "/mcp/", "/mcp/../default", "/mcp/work/x", "/mcpx"):
        response = await http.request(path=path, body={})
        assert response.status == 404, path
    broken = await http.at("broken").request(body={})
    assert (broken.status, broken.json["error"]["data"]["code"]) == (503, "profile.invalid")
    assert "broken.yaml:4: servers.alpha.tolls: no such key" in broken.json["error"]["message"]


async def test_a_token_of_one_profile_is_refused_at_the_others_whether_they_exist_or_not(
    gateway: Gateway, http: Http
) -> None:
    token = gateway.tokens.create("narrow", profiles=("home",))
    assert await http.at("home", token).initialize()
    for profile in ("default", "work", "nobody"):
        response = await http.at(profile, token).request(body={})
        assert (response.status, response.json["error"]["data"]["code"]) == (403, "profile.forbidden")


async def test_a_change_reaches_open_sessions_and_only_those_whose_lists_changed_hear_of_it(
    settings: Settings, http: Http
) -> None:
    home, work = http.at("home"), http.at("work")
    mine, theirs = await home.initialize(), await work.initialize()
    assert text(await home.call(mine, "tools/call", tool_call("whoami")))
    async with home.events("GET", Mcp_Session_Id=mine) as following:
        write(settings, "home", {"servers": {"beta": {"tools": {"allow": ["whoami", "counter"]}}}})
        assert (await following())["method"] == "notifications/tools/list_changed"
    assert await names(home, mine) == {"whoami", "counter"}
    assert text(await home.call(mine, "tools/call", tool_call("counter"))) == "1"
    assert await names(work, theirs)


async def test_a_change_that_concerns_no_value_keeps_the_sandbox_and_one_that_does_ends_it(
    settings: Settings, gateway: Gateway, http: Http, world: World
) -> None:
    write(settings, "home", {"servers": {"gamma": {"config": {"place": "here"}}}})
    home = http.at("home")
    session = await home.initialize()
    await until(lambda: "gamma" in gateway.view("home").index.servers)
    assert text(await home.call(session, "tools/call", tool_call("counter"))) == "1"
    write(settings, "home", {"servers": {"gamma": {"config": {"place": "here"}, "tools": {"deny": ["echo"]}}}})
    await until(lambda: "echo" not in gateway.view("home").index.tools)
    assert text(await home.call(session, "tools/call", tool_call("counter"))) == "2"
    assert gateway.view("home").index.servers["gamma"].run["command"] == ["--place", "here"]
    assert gateway.view("home").index.servers["gamma"].run["env"] == {"PLACE": "here"}
    write(settings, "home", {"servers": {"gamma": {"config": {"place": "there"}}}})
    await until(lambda: world.started[0].process.returncode is not None, "the end of the sandbox with the old value")


async def test_a_server_without_its_value_is_listed_and_its_calls_say_which_command_sets_it(
    settings: Settings, gateway: Gateway, http: Http, world: World
) -> None:
    write(settings, "home", {"servers": {"gamma": None}})
    await until(lambda: "gamma" in gateway.view("home").index.servers)
    home = http.at("home")
    session = await home.initialize()
    reply = await home.call(session, "tools/call", tool_call("counter"))
    assert reply["error"]["data"] == {
        "code": "profile.config_missing",
        "remedy": "run: hm profile config home gamma place=...",
    }
    write(settings, "home", {"servers": {"gamma": {"config": {"place": "nowhere"}}}})
    await until(lambda: gateway.view("home").index.problems["gamma"].code == "profile.config_invalid")
    assert world.started == []


async def test_a_file_that_breaks_leaves_its_profile_as_it_was(
    settings: Settings, gateway: Gateway, http: Http
) -> None:
    home = http.at("home")
    session = await home.initialize()
    write(settings, "home", {"servers": 3})
    write(settings, "work", {"servers": {}})
    await until(lambda: not gateway.view("work").index.servers)
    assert await names(home, session) == {"whoami"}


async def test_a_profile_that_is_removed_takes_its_sandboxes_and_paths_with_it(
    settings: Settings, http: Http, world: World
) -> None:
    home = http.at("home")
    session = await home.initialize()
    assert text(await home.call(session, "tools/call", tool_call("whoami")))
    ProfileFiles(settings.profiles_dir).remove("home")
    await until(lambda: world.started[0].process.returncode is not None)
    assert (await home.request(body={})).json["error"]["data"]["code"] == "profile.unknown"


async def test_more_than_the_entry_gives_needs_a_verdict_of_its_own(
    settings: Settings, world: World, home: Path
) -> None:
    asked: list[Any] = []

    def relaxed(name: str, more: tuple[str, ...]) -> Any:
        asked.append((name, more))
        return world.admit(name)

    write(settings, "big", {"servers": {"alpha": {"limits": {"memory_mb": 1024, "pids": 16}}}})
    for verdict, code in ((None, "profile.override_refused"), (relaxed, None)):
        world.options = {"limits": {"memory_mb": 512, "pids": 128}, "admit_relaxed": verdict}
        async with serving(settings, world) as (_, http):
            big = http.at("big")
            reply = await big.call(await big.initialize(), "tools/call", tool_call("counter"))
            assert reply.get("error", {}).get("data", {}).get("code") == code
            assert text(await http.call(await http.initialize(), "tools/call", tool_call("counter"))) == "1"
    assert set(asked) == {("alpha", ("memory_mb=1024",))}
    assert world.servers["alpha"] == dataclasses.replace(world.servers["alpha"], run={})


async def test_a_gateway_does_not_start_on_a_default_profile_that_it_cannot_read(
    settings: Settings, world: World
) -> None:
    write(settings, "default", {"servers": 3})
    with pytest.raises(ProfileInvalid, match=r"default\.yaml:2: servers"):
        async with serving(settings, world):
            pass


async def test_the_default_profile_s_own_file_decides_what_mcp_serves(settings: Settings, world: World) -> None:
    write(settings, "default", {"servers": {"*": None}, "exclude": ["alpha"]})
    async with serving(settings, world) as (_, http):
        for at in (http, http.at("default")):
            assert await names(at, await at.initialize()) == set()
        session = await http.initialize()
        assert await names(http.at("default"), session) == set(), "two paths of one profile"


async def test_a_stdio_client_sees_the_profile_that_it_was_started_with(settings: Settings) -> None:
    write(settings, "talk", {"dynamic": True, "servers": {"alpha": None}})
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, "talk", cwd=ROOT, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, limit=1 << 24
    )
    child = Child(process)
    await child.begin()
    assert {t["name"] for t in (await child.ask("tools/list"))["result"]["tools"]} >= {"mcp-find", "mcp-exec"}
    reply = await child.ask("tools/call", tool_call("mcp-exec", {"name": "counter"}))
    assert text(reply) == "1"
    assert await child.end() == 0
