"""Secrets in an entry, in the lock, and in the sandbox that lists or tries a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from harbourmaster.core.errors import ConfigError, HarbourError
from harbourmaster.core.secrets import DeclaredSecret, SecretId, SecretStore, declared_from, deliver, missing
from harbourmaster.core.secrets.errors import SecretMissing
from harbourmaster.core.settings import Settings
from harbourmaster.up.locking import run_settings
from registry.listing import sandbox_spec
from registry.schema import Entry, load_entry
from registry.trial import own_secrets

FILE = {"name": "alpha.key", "env": "ALPHA_KEY", "description": "A key", "as": "file"}
VARIABLE = {"name": "alpha.token", "env": "ALPHA_TOKEN", "description": "A token", "example": "tok-123"}
SPARE = {"name": "spare", "env": "SPARE", "description": "For more", "required": False}
ID = "sha256:" + "0" * 64


def entry(tmp_path: Path, settings: Settings, *secrets: dict[str, Any], env: dict[str, str] | None = None) -> Entry:
    """The starter server ``time``, renamed, with these secrets."""
    body = YAML(typ="safe").load((settings.servers_dir / "time/server.yaml").read_bytes())
    body["name"] = "alpha"
    body.setdefault("config", {})["secrets"] = list(secrets)
    body["run"]["env"] = env or {}
    (tmp_path / "alpha").mkdir(exist_ok=True)
    (tmp_path / "alpha/server.yaml").write_text(json.dumps(body))  # JSON is YAML
    return load_entry(tmp_path / "alpha")


def test_the_lock_carries_names_and_never_values(tmp_path: Path, settings: Settings) -> None:
    run = run_settings(entry(tmp_path, settings, FILE, VARIABLE, SPARE))
    assert run["secrets"] == [
        {"name": "alpha.key", "env": "ALPHA_KEY", "as": "file", "required": True},
        {"name": "alpha.token", "env": "ALPHA_TOKEN", "as": "env", "required": True},
        {"name": "spare", "env": "SPARE", "as": "env", "required": False},
    ]
    assert declared_from(json.loads(json.dumps(run))) == entry(tmp_path, settings, FILE, VARIABLE, SPARE).secrets()
    assert declared_from({}) == ()


def test_an_entry_with_a_required_secret_is_off_until_a_person_enables_it(tmp_path: Path, settings: Settings) -> None:
    assert entry(tmp_path, settings, VARIABLE).needs_configuration
    assert not entry(tmp_path, settings, SPARE).needs_configuration


@pytest.mark.parametrize(
    ("secrets", "env"),
    [
        ([VARIABLE, VARIABLE | {"env": "B"}], {}),
        ([VARIABLE, FILE | {"env": "ALPHA_TOKEN"}], {}),
        ([VARIABLE | {"as": "volume"}], {}),
        ([FILE], {"ALPHA_KEY_FILE": "/etc/shadow"}),
        ([FILE | {"name": "../x"}], {}),
    ],
    ids=["same name", "same variable", "other as", "variable of the file", "path"],
)
def test_a_contradictory_entry_is_refused(
    tmp_path: Path, settings: Settings, secrets: list[Any], env: dict[str, str]
) -> None:
    with pytest.raises((ConfigError, HarbourError)) as refused:
        entry(tmp_path, settings, *secrets, env=env)
    assert refused.value.code == "entry.invalid"


def test_listing_a_server_uses_placeholders_and_no_one_s_secrets(tmp_path: Path, settings: Settings) -> None:
    spec = sandbox_spec(entry(tmp_path, settings, FILE, VARIABLE, SPARE), ID, ID)
    assert spec.secret_files == {"alpha.key": "placeholder"}
    assert spec.env["ALPHA_KEY_FILE"] == "/run/secrets/alpha.key"
    assert spec.env["ALPHA_TOKEN"] == "tok-123"
    assert "SPARE" not in spec.env


def test_trying_a_server_uses_what_its_person_has_set(tmp_path: Path, settings: Settings, store: SecretStore) -> None:
    alpha = entry(tmp_path, settings, FILE, VARIABLE, SPARE)
    store.put(SecretId("alpha", "alpha.token"), "own-token")
    spec = sandbox_spec(alpha, ID, ID, secrets=own_secrets(alpha, store))
    assert spec.env["ALPHA_TOKEN"] == "own-token"
    assert "ALPHA_TOKEN" in spec.secret_env
    assert spec.secret_files == {"alpha.key": "placeholder"}


def test_every_missing_secret_is_named_at_once_and_optional_ones_are_not(store: SecretStore) -> None:
    declared = [
        DeclaredSecret("a", "A"),
        DeclaredSecret("b", "B", as_file=True),
        DeclaredSecret("c", "C", required=False),
    ]
    assert [each.name for each in missing(store, "alpha", declared)] == ["a", "b"]
    with pytest.raises(SecretMissing) as refused:
        deliver(store, "alpha", declared)
    assert refused.value.remedy == "run: hm secret set a --server alpha && hm secret set b --server alpha"
    store.put(SecretId("beta", "a"), "of another server")
    with pytest.raises(SecretMissing):
        deliver(store, "alpha", declared[:1])


def test_a_file_s_variable_follows_the_convention_once() -> None:
    assert DeclaredSecret("a", "PASSWORD", as_file=True).variable == "PASSWORD_FILE"
    assert DeclaredSecret("a", "PASSWORD_FILE", as_file=True).variable == "PASSWORD_FILE"
    assert DeclaredSecret("a", "PASSWORD").variable == "PASSWORD"
