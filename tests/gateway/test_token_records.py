"""Who was given a token and who lost one is on record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
