"""Profiles as files, values and names: pure, or one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.index import build, layered
from gateway.lock import LockedServer
from gateway.names import public_names
from gateway.profiles.errors import (
    ConfigInvalid,
    ConfigMissing,
    OverrideRefused,
    ProfileExists,
    ProfileInvalid,
    ProfileUnknown,
)
from gateway.profiles.files import ProfileFiles, section
from gateway.profiles.schema import EVERYTHING, Profile, ServerRules, ToolRules, body_of, parse
from gateway.profiles.select import select
from gateway.profiles.sight import Sight
from gateway.profiles.values import variant
from harbourmaster.core.errors import HarbourError, UsageError
from harbourmaster.core.secrets import declared_from
from tests.gateway.harness import locked

FOLDER = Path("profiles/work.yaml")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("servers:\n  alpha:\n    tolls: {}\n", 3, "servers.alpha.tolls: no such key"),
        ("version: 2\n", 1, "version"),
        ("servers:\n  Alpha: {}\n", 2, "servers.Alpha"),
        ("servers:\n  'git*':\n    config: {a: 1}\n", 1, "name it"),
        ("servers:\n  a: {}\n  a: {}\n", 3, "twice"),
        ("dynamic:\n  persists: true\n", 2, "no such key"),
        ("- servers\n", 1, "a profile is a mapping"),
        ("servers: [a\n", 2, "not YAML"),
        ("servers:\n  a:\n    tools:\n      deny: [1]\n", 4, "deny"),
        ("servers: &x {}\n", 1, "anchors"),
        ("title: 'a\u202eb'\n", 1, "invisible"),
    ],
)
def test_what_a_profile_cannot_say_is_refused_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(ProfileInvalid) as refused:
        parse(FOLDER, text.encode())
    assert f"{FOLDER}:{line}:" in refused.value.message
    assert said in refused.value.message
    assert refused.value.remedy


def test_json_is_read_and_what_is_written_reads_back_the_same() -> None:
    profile = Profile(
        title="Work",
        dynamic=True,
        servers={"a": ServerRules(tools=ToolRules(deny=["x*"]), config={"n": 1}), "b": None},
        exclude=["c"],
    )
    assert parse(FOLDER, json.dumps(body_of(profile)).encode()).servers["a"] == profile.servers["a"]
    assert body_of(parse(FOLDER, json.dumps(body_of(profile)).encode())) == body_of(profile)


def test_an_edit_keeps_comments_and_never_leaves_what_cannot_be_read(tmp_path: Path) -> None:
    files = ProfileFiles(tmp_path)
    path = files.create("work", Profile(servers={"a": None}))
    path.write_text("# ours\nversion: 1\nservers:\n  a: {}  # the first\n")
    files.edit("work", lambda body: section(body, "servers", "b").update(config={"n": 1}))
    assert "# ours" in path.read_text()
    assert "# the first" in path.read_text()
    assert files.load("work").rules("b").config == {"n": 1}
    before = path.read_text()
    with pytest.raises(ProfileInvalid):
        files.edit("work", lambda body: body.update(servers=3))
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["work.yaml"]


def test_names_cannot_leave_the_folder_and_are_taken_once(tmp_path: Path) -> None:
    files = ProfileFiles(tmp_path)
    for name in ("../x", "", "A", "a/b", "a.b", ".a", "-a", "a" * 64):
        with pytest.raises(UsageError):
            files.path(name)
    files.create("work", EVERYTHING)
    with pytest.raises(ProfileExists):
        files.create("work", EVERYTHING)
    files.remove("work")
    with pytest.raises(ProfileUnknown):
        files.remove("work")


def test_a_folder_that_is_not_there_holds_no_profiles(tmp_path: Path) -> None:
    files = ProfileFiles(tmp_path / "none")
    assert files.load_all() == {}
    assert files.changed() is None


def lock(**enabled: bool) -> dict[str, LockedServer]:
    return {name: locked(name, enabled=on) for name, on in enabled.items()}


def served(profile: Profile, **enabled: bool) -> list[str]:
    return list(select("p", profile, lock(**enabled), {}).servers)


def test_exact_names_reach_any_locked_server_globs_only_enabled_ones() -> None:
    assert served(EVERYTHING, a=True, b=False) == ["a"]
    assert served(Profile(servers={"b": None, "*": None}), a=True, b=False) == ["a", "b"]
    assert served(Profile(servers={"*": None}, exclude=["git*"]), git=True, gitlab=True, time=True) == ["time"]
    assert select("p", Profile(servers={"gone": None}), lock(a=True), {}).absent == ("gone",)


def test_a_tool_is_served_when_it_is_allowed_and_not_denied() -> None:
    profile = Profile(servers={"a": ServerRules(tools=ToolRules(allow=["get_*", "list"], deny=["get_secret*"]))})
    visible = select("p", profile, lock(a=True), {}).visible["a"]
    shown = [t for t in ("get_one", "get_secrets", "list", "List", "delete") if visible.tool(t)]
    assert shown == ["get_one", "list"]


SCHEMA = {
    "type": "object",
    "properties": {
        "zone": {"type": "string", "default": "UTC"},
        "port": {"type": "integer", "minimum": 1},
        "paths": {"type": "array", "items": {"type": "string"}, "default": []},
    },
    "required": ["port"],
}
TEMPLATES = {
    "command": ["serve", "--zone={{zone}}", "{{paths|into}}", "{{ alpha.port }}"],
    "env": {"PORT": "{{port}}"},
    "schema": SCHEMA,
}


def configured(**config: Any) -> dict[str, Any]:
    server = locked("alpha", run={"config": TEMPLATES, "command": ["serve"]})
    return variant(server, ServerRules(config=config), "work", {}).run


def test_values_take_the_templates_places_docker_s_way_of_naming_them_too() -> None:
    run = configured(port=80, zone="Europe/Oslo", paths=["/a", "/b"])
    assert run["command"] == ["serve", "--zone=Europe/Oslo", "/a", "/b", "80"]
    assert run["env"] == {"PORT": "80"}


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ({}, ConfigMissing, "port"),
        ({"port": "80"}, ConfigInvalid, "not of type 'integer'"),
        ({"port": 0}, ConfigInvalid, "minimum"),
        ({"port": 80, "size": 1}, ConfigInvalid, "no parameter size"),
        ({"port": 80, "paths": ["--evil"]}, ConfigInvalid, "option"),
        ({"port": 80, "zone": "a\nb"}, ConfigInvalid, "control"),
    ],
)
def test_values_that_do_not_fit_are_refused(config: Any, error: type[HarbourError], said: str) -> None:
    with pytest.raises(error, match=said):
        configured(**config)


def test_a_missing_value_names_the_command_that_sets_it() -> None:
    with pytest.raises(ConfigMissing) as refused:
        configured()
    assert refused.value.remedy == "run: hm profile config work alpha port=..."


def test_another_stored_secret_is_given_in_the_place_of_the_declared_one() -> None:
    server = locked("alpha", run={"secrets": [{"name": "token", "env": "TOKEN"}]})
    run = variant(server, ServerRules(secrets={"token": "token-work"}), "work", {}).run
    (secret,) = declared_from(run)
    assert (secret.name, str(secret.id_for("alpha"))) == ("token", "alpha/token-work")
    with pytest.raises(OverrideRefused, match="declares no secret key"):
        variant(server, ServerRules(secrets={"key": "x"}), "work", {})


def test_only_what_gives_more_than_the_entry_is_a_relaxation() -> None:
    server = locked("alpha", run={"limits": {"memory_mb": 1024}})
    defaults = {"memory_mb": 512, "pids": 128, "tmp_exec": False}

    def relaxed(**limits: Any) -> tuple[str, ...]:
        return variant(server, ServerRules(limits=limits), "work", defaults).relaxed

    assert relaxed(memory_mb=1024, pids=64) == ()
    assert relaxed(memory_mb=2048, pids=256, tmp_exec=True) == ("memory_mb=2048", "pids=256", "tmp_exec=True")
    assert relaxed(unheard_of=1) == ("unheard_of=1",), "what cannot be measured counts"


def test_a_server_that_a_profile_leaves_as_it_is_stays_the_very_same() -> None:
    server = locked("alpha")
    assert variant(server, ServerRules(tools=ToolRules(deny=["x"])), "work", {}) is server


def test_names_that_were_told_stay_and_whoever_comes_later_makes_way() -> None:
    kept = {("a", "echo"): "echo"}
    assert public_names([("a", "echo"), ("b", "echo")], kept) == {("a", "echo"): "echo", ("b", "echo"): "b__echo"}
    assert public_names([("a", "echo"), ("b", "echo")]) == {("a", "echo"): "a__echo", ("b", "echo"): "b__echo"}


def test_an_index_over_another_takes_none_of_its_names_and_costs_no_copy() -> None:
    below = build(lock(a=True), {})
    top = build(lock(b=True), {}, below=below)
    both = layered(top, below)
    assert both.tool("echo").server == "a"
    assert both.tool("b__echo").server == "b"
    assert both.prompt("greet").server == "a"
    assert both.prompt("b__greet").server == "b"
    assert both.resource("note://one").server == "a"
    assert both.resource("b+note://one").server == "b"
    assert set(both.servers) == {"a", "b"}
    assert both.tools.maps[-1] is below.tools  # type: ignore[attr-defined]


def test_hiding_a_tool_renames_none() -> None:
    servers = lock(a=True, b=True)
    full, less = build(servers, {}), build(servers, {}, visible={"b": Sight(ServerRules(tools=ToolRules(allow=[])))})
    assert {r.public for r in less.tools.values() if r.server == "a"} == {
        r.public for r in full.tools.values() if r.server == "a"
    }
    assert not any(r.server == "b" for r in less.tools.values())
