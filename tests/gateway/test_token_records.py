"""Who was given a token and who lost one is on record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.edges.guard import Guard, HttpRefusal
from gateway.tokens import TokenStore
from harbourmaster.cli import main
from harbourmaster.core.audit import tail
from harbourmaster.core.settings import Settings

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(home: Path, capsys: Any) -> Run:
    def said(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            main(("token", *words))
        return int(left.value.code or 0), capsys.readouterr().out

    return said


def test_tokens_that_are_made_and_revoked_are_on_record_and_never_the_token(run: Run, settings: Settings) -> None:
    token = run("create", "ci", "--scope", "list", "--profile", "work", "--expires", "2100-01-01")[1].strip()
    assert run("revoke", "ci")[0] == 0
    created, revoked = tail(settings.audit_dir, 2)
    assert {k: created[k] for k in ("kind", "event", "name", "scopes", "profiles", "expires")} == {
        "kind": "token",
        "event": "create",
        "name": "ci",
        "scopes": ["list"],
        "profiles": ["work"],
        "expires": "2100-01-01T00:00:00Z",
    }
    assert (revoked["event"], revoked["name"]) == ("revoke", "ci")
    assert not any(token in path.read_text() for path in settings.audit_dir.glob("*.jsonl"))


def test_a_token_that_cannot_be_recorded_is_not_given_and_a_revocation_stands(run: Run, settings: Settings) -> None:
    TokenStore(settings.tokens_file).create("old")
    settings.audit_dir.parent.mkdir(exist_ok=True)
    settings.audit_dir.write_text("not a folder")
    status, said = run("create", "new")
    assert (status, "hm_" in said) == (1, False)
    assert run("revoke", "old")[0] == 1
    assert TokenStore(settings.tokens_file).list() == []


def test_a_header_that_was_good_is_not_remembered_beyond_its_token(settings: Settings) -> None:
    tokens, elsewhere = TokenStore(settings.tokens_file), TokenStore(settings.tokens_file)
    guard = Guard(tokens)

    def knock(token: str, scheme: bytes = b"Bearer") -> Any:
        return guard.principal({b"host": b"localhost", b"authorization": scheme + b" " + token.encode()})

    token = tokens.create("alice")
    assert [knock(token).name for _ in range(3)] == ["alice"] * 3
    assert knock(token, b"bearer").name == "alice"
    with pytest.raises(HttpRefusal):
        knock(token, b"Basic")
    elsewhere.refresh()
    elsewhere.revoke("alice")
    assert tokens.refresh()
    with pytest.raises(HttpRefusal):
        knock(token)
    again = elsewhere.create("alice")  # the name is somebody else's now
    tokens.refresh()
    assert knock(again).name == "alice"
    with pytest.raises(HttpRefusal):
        knock(token)


def test_a_header_that_is_remembered_ends_with_its_token_s_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = TokenStore(settings.tokens_file)
    token = tokens.create("bob", expires="2100-01-01T00:00:00Z")
    guard = Guard(tokens)
    headers = {b"host": b"localhost", b"authorization": b"Bearer " + token.encode()}
    assert guard.principal(headers).name == "bob"
    monkeypatch.setattr("gateway.edges.guard.time.time", lambda: 4102444800.0)  # 2100-01-01
    with pytest.raises(HttpRefusal) as told:
        guard.principal(headers)
    assert told.value.code == "auth.expired"
