"""``hm profile``, and what else takes ``--profile``."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.lock import read_lock, write_lock
from gateway.profiles.files import ProfileFiles
from gateway.profiles.schema import Dynamic
from gateway.profiles.select import select
from harbourmaster.cli import main
from harbourmaster.core.secrets import SecretStore, declared_from, deliver
from harbourmaster.core.settings import Settings
from tests.gateway.harness import locked
from tests.gateway.test_profiles_http import CONFIG


@pytest.fixture(autouse=True)
def lock(settings: Settings) -> None:
    gamma = locked("gamma", enabled=False, run={"config": CONFIG, "secrets": [{"name": "token", "env": "TOKEN"}]})
    write_lock(settings.lock_file, {"alpha": locked("alpha"), "beta": locked("beta"), "gamma": gamma})


@pytest.fixture
def hm(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str) -> tuple[int, str, str]:
        status = 0
        try:
            main(list(words))
        except SystemExit as e:
            status = int(e.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def rows(hm: Any) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(hm("profile", "ls", "--json")[1])}


def test_default_is_there_without_a_file_and_has_every_enabled_server(hm: Any) -> None:
    assert [s["name"] for s in rows(hm)["default"]["servers"]] == ["alpha", "beta"]
    assert hm("profile", "show", "default")[0] == 0


def test_a_profile_is_made_filled_and_shown(hm: Any) -> None:
    assert "/mcp/work" in hm("profile", "create", "work", "alpha", "--title", "Work")[1]
    assert hm("profile", "add", "work", "beta", "--allow", "e*", "--deny", "elicit")[0] == 0
    body = json.loads(hm("profile", "show", "work", "--json")[1])
    assert {s["name"]: s["tools"] for s in body["servers"]}["beta"] == 1
    tools = json.loads(hm("tools", "ls", "--profile", "work", "--json")[1])
    assert {t["tool"] for t in tools if t["server"] == "beta"} == {"echo"}
    assert "alpha__echo" in {t["name"] for t in tools}
    hm("profile", "remove", "work", "beta")
    assert [s["name"] for s in rows(hm)["work"]["servers"]] == ["alpha"]
    assert hm("profile", "rm", "work")[0] == 0
    assert list(rows(hm)) == ["default"]


def test_values_secrets_and_limits_are_set_typed_checked_and_forgotten(hm: Any, settings: Settings) -> None:
    hm("profile", "create", "work", "gamma")
    assert "place" in hm("profile", "config", "work", "gamma")[1]
    status, _, err = hm("profile", "config", "work", "gamma", "place=nowhere")
    assert (status, "profile.config_invalid" in err) == (1, True)
    hm("profile", "config", "work", "gamma", "place=here", "--secret", "token=token-work", "--limit", "memory_mb=256")
    rules = ProfileFiles(settings.profiles_dir).load("work").rules("gamma")
    assert (rules.config, rules.secrets, rules.limits) == (
        {"place": "here"},
        {"token": "token-work"},
        {"memory_mb": 256},
    )
    assert hm("profile", "config", "work", "gamma", "--secret", "nope=x")[0] == 1
    status, _, err = hm("profile", "config", "work", "gamma", "--unset", "place")
    assert "hm profile config work gamma place=..." in err


def test_what_keeps_a_server_from_running_is_shown_with_what_to_do(hm: Any) -> None:
    hm("profile", "create", "work", "gamma")
    out = hm("profile", "show", "work")[1]
    assert "needs a value for place" in out
    assert "hm profile config work gamma place=..." in out


def test_the_default_profile_gets_a_file_when_it_is_changed_and_loses_it_again(hm: Any, settings: Settings) -> None:
    hm("profile", "add", "default", "alpha", "--deny", "fail")
    assert "*" in ProfileFiles(settings.profiles_dir).load("default").servers
    hm("profile", "rm", "default")
    assert hm("profile", "rm", "default")[0] == 2


def test_a_profile_travels_as_a_file(hm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hm("profile", "create", "work", "alpha")
    for words in (("-o", str(tmp_path / "there.yaml")), ("-o", str(tmp_path / "other.json"), "--json")):
        assert hm("profile", "export", "work", *words)[0] == 0
    assert hm("profile", "import", str(tmp_path / "there.yaml"))[0] == 0
    assert hm("profile", "import", str(tmp_path / "other.json"), "--name", "more")[0] == 0
    assert hm("profile", "import", str(tmp_path / "there.yaml"))[0] == 1
    assert hm("profile", "import", str(tmp_path / "there.yaml"), "--replace")[0] == 0
    assert set(rows(hm)) == {"default", "work", "there", "more"}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"servers: {beta: }\n")))
    assert hm("profile", "import", "-")[0] == 2
    (tmp_path / "bad.yaml").write_text("servers: {alpha: {tolls: 1}}")
    status, _, err = hm("profile", "import", str(tmp_path / "bad.yaml"))
    assert (status, "bad.yaml:1" in err) == (1, True)


def test_unknown_profiles_and_servers_are_refused(hm: Any) -> None:
    for words in (
        ("profile", "show", "nope"),
        ("profile", "create", "work", "nope"),
        ("tools", "ls", "--profile", "nope"),
        ("client", "connect", "cursor", "--profile", "nope", "--print"),
    ):
        status, _, err = hm(*words)
        assert (status, "what to do" in err) == (1, True), words


def test_a_client_is_connected_to_a_profile_over_http_or_stdio(hm: Any) -> None:
    hm("profile", "create", "work", "alpha")
    assert '/mcp/work"' in hm("client", "connect", "cursor", "--profile", "work", "--print")[1]
    stdio = hm("client", "connect", "cursor", "--profile", "work", "--transport", "stdio", "--print")[1]
    args = next(iter(json.loads(stdio)["mcpServers"].values()))["args"]
    assert args[-2:] == ["--profile", "work"]
    assert '/mcp"' in hm("client", "connect", "cursor", "--profile", "default", "--print")[1]


def test_a_broken_file_is_listed_as_such_and_the_others_are_shown(hm: Any, settings: Settings) -> None:
    settings.profiles_dir.mkdir(parents=True)
    (settings.profiles_dir / "bad.yaml").write_text("servers: 3\n")
    status, out, err = hm("profile", "ls")
    assert (status, "cannot be read" in out, "default" in out) == (0, True, True)
    assert "bad.yaml:1: servers" in err


def test_disabling_a_server_says_which_profiles_still_name_it(hm: Any) -> None:
    hm("profile", "create", "work", "alpha")
    assert "hm profile remove work alpha" in hm("server", "disable", "alpha")[2]
    assert hm("server", "disable", "beta")[2] == ""


def test_a_secret_that_a_profile_gives_can_be_set_and_is_what_the_sandbox_gets(
    hm: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HM_SECRETS_BACKEND", "age")
    assert hm("secret", "set", "token-work=profile-cli-0", "--server", "gamma")[0] == 1, "nobody has a use for it yet"
    hm("profile", "create", "work", "gamma")
    assert (
        "hm secret set token-work --server gamma"
        in hm("profile", "config", "work", "gamma", "place=here", "--secret", "token=token-work")[1]
    )
    for name, value in (("token", "profile-cli-all"), ("token-work", "profile-cli-work")):
        assert hm("secret", "set", f"{name}={value}", "--server", "gamma")[0] == 0
    store = SecretStore.of(Settings.load(home=settings.home))
    locks, files = read_lock(settings.lock_file), ProfileFiles(settings.profiles_dir)
    ours = select("work", files.load("work"), locks, {}).servers["gamma"]
    for server, value in ((locks["gamma"], "profile-cli-all"), (ours, "profile-cli-work")):
        assert deliver(store, "gamma", declared_from(server.run)).env == {"TOKEN": value}


def test_a_tool_is_called_as_the_profile_s_clients_would_or_refused(hm: Any) -> None:
    hm("profile", "create", "work")
    hm("profile", "add", "work", "alpha", "--allow", "echo")
    status, _, err = hm("call", "--profile", "work", "alpha.counter")
    assert (status, "the profile serves no tool alpha.counter" in err) == (1, True)


def test_a_profile_becomes_dynamic_and_static_again_and_keeps_what_was_said_in_detail(
    hm: Any, settings: Settings
) -> None:
    files = ProfileFiles(settings.profiles_dir)
    hm("profile", "set", "default", "--dynamic", "--title", "All")
    assert (files.load("default").dynamic, files.load("default").title) == (True, "All")
    files.edit("default", lambda body: body.update(dynamic={"code": False}))
    hm("profile", "set", "default", "--dynamic")
    assert files.load("default").dynamics == Dynamic(code=False)
    hm("profile", "set", "default", "--static")
    assert files.load("default").dynamics is None
