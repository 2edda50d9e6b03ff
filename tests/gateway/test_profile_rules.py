"""Rules of a profile about prompts, resources and templates: what is kept out is neither listed, completed nor read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.gateway import Gateway
from gateway.profiles.schema import ResourceRules, ServerRules
from gateway.profiles.sight import Sight, spellings
from harbourmaster.core.settings import Settings
from tests.gateway import backend
from tests.gateway.harness import Http, World, locked, serving, tool_call, until
from tests.gateway.test_profiles_http import write

PROMPTS = [{"name": "greet"}, {"name": "insult"}]
RESOURCES = [{"uri": f"note://{name}", "name": name} for name in ("one", "two", "private/key")]
TEMPLATES = [
    {"uriTemplate": "note://by/{name}", "name": "by name"},
    {"uriTemplate": "note://private/{name}", "name": "private"},
    {"uriTemplate": "page://{+path}", "name": "pages"},
]
OFFER = {"prompts": PROMPTS, "resources": RESOURCES, "resourceTemplates": TEMPLATES}
PROFILES = {
    "work": {"servers": {"alpha": {"prompts": {"deny": ["insult"]}, "resources": {"deny": ["note://private/*"]}}}},
    "few": {
        "servers": {"alpha": {"prompts": {"allow": ["g*"]}, "resources": {"allow": ["note://one", "page://open/*"]}}}
    },
    "by": {"servers": {"*": {"resources": {"allow": ["note://by/{name}"], "deny": ["*secret*"]}}}},
    "none": {"servers": {"alpha": {"prompts": {"allow": []}, "resources": {"allow": []}}}},
}


@pytest.fixture
def world() -> World:
    alpha = locked("alpha", backend.listing("alpha", **OFFER), run={"command": [json.dumps(OFFER)]})
    return World({"alpha": alpha, "beta": locked("beta", enabled=False)})


@pytest.fixture
async def served(settings: Settings, world: World) -> AsyncIterator[tuple[Gateway, Http]]:
    for name, body in PROFILES.items():
        write(settings, name, body)
    async with serving(settings, world) as pair:
        yield pair


async def listed(http: Http, session: str) -> tuple[set[str], set[str], set[str]]:
    prompts = (await http.call(session, "prompts/list"))["result"]["prompts"]
    resources = (await http.call(session, "resources/list"))["result"]["resources"]
    templates = (await http.call(session, "resources/templates/list"))["result"]["resourceTemplates"]
    return {p["name"] for p in prompts}, {r["uri"] for r in resources}, {t["uriTemplate"] for t in templates}


async def reads(http: Http, session: str, uri: str) -> bool:
    """Whether it is read; else it is not known, as if nobody had it."""
    reply = await http.call(session, "resources/read", {"uri": uri})
    if "result" in reply:
        return True
    assert reply["error"]["data"]["code"] == "gateway.unknown_resource", reply
    return False


@pytest.mark.parametrize(
    ("profile", "prompts", "resources", "templates"),
    [
        ("work", {"greet"}, {"note://one", "note://two"}, {"note://by/{name}", "page://{+path}"}),
        ("few", {"greet"}, {"note://one"}, set()),
        ("by", {"greet", "insult"}, set(), {"note://by/{name}"}),
        ("none", set(), set(), set()),
    ],
)
async def test_lists_have_what_the_rules_leave(
    http: Http, world: World, profile: str, prompts: Any, resources: Any, templates: Any
) -> None:
    at = http.at(profile)
    assert await listed(at, await at.initialize()) == (prompts, resources, templates)
    modern = (await at.modern("resources/templates/list")).json["result"]["resourceTemplates"]
    assert {t["uriTemplate"] for t in modern} == templates
    assert world.started == []


async def test_a_prompt_that_is_kept_out_is_unknown_in_every_request(http: Http, world: World) -> None:
    at = http.at("work")
    session = await at.initialize()
    ref = {"type": "ref/prompt", "name": "insult"}
    for method, params in (
        ("prompts/get", {"name": "insult"}),
        ("prompts/get", {"name": "alpha__insult"}),
        ("completion/complete", {"ref": ref, "argument": {"name": "who", "value": "x"}}),
    ):
        reply = await at.call(session, method, params)
        assert reply["error"]["data"]["code"] == "gateway.unknown_prompt", method
    assert world.started == []
    assert "result" in await at.call(session, "prompts/get", {"name": "greet"})


@pytest.mark.parametrize(
    ("profile", "read", "refused"),
    [
        (
            "work",
            ("note://one", "note://by/anyone", "page://x", "note://minted"),
            (
                "note://private/key",
                "note://private/other",
                "NOTE://private/key",
                "note://Private/key",
                "note://private%2Fkey",
                "note://private%252Fkey",
                "note://by/../private/key",
                "note://x/..//private/key",
                "note:\\\\private\\key",
            ),
        ),
        (
            "few",
            ("note://one", "page://open/a", "page://open/a/b"),
            (
                "note://two",
                "note://by/anyone",
                "page://closed/a",
                "page://open/../closed/a",
                "page://open/%2e%2e/closed",
            ),
        ),
        ("by", ("note://by/anyone",), ("note://one", "note://by/my-secret", "note://by/my-SECRET", "page://x")),
        ("none", (), ("note://one", "note://by/anyone", "page://x", "elsewhere://x")),
    ],
)
async def test_what_is_kept_out_is_not_read_by_any_spelling_template_or_guess(
    http: Http, profile: str, read: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    at = http.at(profile)
    session = await at.initialize()
    for uri in read:
        assert await reads(at, session, uri), uri
    for uri in refused:
        assert not await reads(at, session, uri), uri


async def test_subscriptions_and_completions_of_what_is_kept_out_are_unknown_too(http: Http, world: World) -> None:
    at = http.at("work")
    session = await at.initialize()
    private = {"type": "ref/resource", "uri": "note://private/{name}"}
    for method, params in (
        ("resources/subscribe", {"uri": "note://private/key"}),
        ("completion/complete", {"ref": private, "argument": {"name": "name", "value": "k"}}),
    ):
        reply = await at.call(session, method, params)
        assert reply["error"]["data"]["code"] == "gateway.unknown_resource", method
    assert world.started == []


async def test_a_change_of_rules_reaches_sessions_and_ends_no_sandbox(
    settings: Settings, http: Http, gateway: Gateway, world: World
) -> None:
    at = http.at("work")
    session = await at.initialize()
    assert "result" in await at.call(session, "prompts/get", {"name": "greet"})
    assert "result" in await at.call(session, "tools/call", tool_call("counter"))
    write(settings, "work", {"servers": {"alpha": {"prompts": {"deny": ["greet"]}}}})
    await until(lambda: bool(gateway.views.profiles["work"].rules("alpha").prompts.deny == ["greet"]))  # type: ignore[union-attr]
    assert (await listed(at, session))[0] == {"insult"}
    assert await reads(at, session, "note://private/key")
    counted = await at.call(session, "tools/call", tool_call("counter"))
    messages = counted if isinstance(counted, list) else [counted]
    assert messages[-1]["result"]["content"][0]["text"] == "2"
    assert len(world.started) == 1


async def test_other_profiles_and_servers_keep_everything(http: Http) -> None:
    session = await http.initialize()
    assert (await listed(http, session))[0] == {"greet", "insult"}
    assert await reads(http, session, "note://private/key")


# -- pure


def test_one_uri_has_the_spellings_that_servers_take_for_the_same() -> None:
    assert spellings("note://one") == ("note://one",)
    assert set(spellings("docs://public/../private")) == {
        "docs://public/../private",
        "docs://public/private",
        "docs://private",
    }
    assert "file:///etc/passwd" in spellings("file:///x/%2e%2e/etc//passwd")
    assert spellings("docs://public/") == ("docs://public/",)
    assert "mem:b" in spellings("mem:a/../b")


def test_what_is_encoded_without_end_is_not_read_where_there_are_rules() -> None:
    encoded = "note://%" + "25" * 9 + "2e"
    assert not Sight(ServerRules(resources=ResourceRules(deny=["x"]))).resource(encoded)
    assert Sight(ServerRules()).resource(encoded)


def test_names_keep_their_capitals_where_they_are_allowed() -> None:
    sight = Sight(ServerRules(resources=ResourceRules(allow=["repo://Owner/*"])))
    assert sight.resource("repo://Owner/File")
    assert not sight.resource("repo://owner/File")
