"""A running gateway follows the keys that it trusts: one that is withdrawn counts from that moment, not after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harbourmaster.compose import LiveAdmitter
from harbourmaster.core.settings import Settings
from policies.keys import KEY_FILE, SigningKey

RULE = """version: 1
rules:
  - name: acme
    tier: built
    servers: ["*"]
    keys: [{file: acme.pub}, {local: true}]
"""


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.load(home=home)


def trusted(live: Any) -> list[str]:
    return [key.key_id for rule in live._current()._verifier.trust.rules for key in rule.requirement.keys]


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o600)
    fresh.replace(path)


def test_a_key_file_that_is_exchanged_is_read_again(settings: Settings) -> None:
    old, new = SigningKey.generate().verifying, SigningKey.generate().verifying
    put(settings.trust_file, RULE)
    put(settings.trust_file.with_name("acme.pub"), old.pem)
    live: Any = LiveAdmitter(settings, None, None)  # type: ignore[arg-type]
    first = trusted(live)
    assert old.key_id in first
    assert live._current() is live._current(), "nothing changed, nothing is read"
    put(settings.trust_file.with_name("acme.pub"), new.pem)
    assert new.key_id in trusted(live)
    assert old.key_id not in trusted(live)


@pytest.mark.parametrize("rules", [RULE, ""], ids=["trust.yaml", "default"])
def test_this_installation_s_own_key_is_read_again_when_it_was_replaced(settings: Settings, rules: str) -> None:
    if rules:
        put(settings.trust_file, rules)
        put(settings.trust_file.with_name("acme.pub"), SigningKey.generate().verifying.pem)
    live: Any = LiveAdmitter(settings, None, None)  # type: ignore[arg-type]
    before = trusted(live)
    (settings.keys_dir / KEY_FILE).unlink()  # leaked; the next use makes another
    SigningKey.load_or_create(settings.keys_dir)
    after = trusted(live)
    assert set(before) != set(after)
    assert SigningKey.load_or_create(settings.keys_dir).key_id in after


def test_rules_that_come_later_bring_their_files_with_them(settings: Settings) -> None:
    live: Any = LiveAdmitter(settings, None, None)  # type: ignore[arg-type]
    trusted(live)
    key, other = SigningKey.generate().verifying, SigningKey.generate().verifying
    put(settings.trust_file.with_name("acme.pub"), key.pem)
    put(settings.trust_file, RULE)
    assert key.key_id in trusted(live)
    put(settings.trust_file.with_name("acme.pub"), other.pem)
    assert other.key_id in trusted(live)
