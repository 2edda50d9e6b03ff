"""Keeping values: what is on disk, who may read it, and what happens when it is not as it was left."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import pyrage
import pytest

from harbourmaster.core.errors import HarbourError
from harbourmaster.core.secrets import SecretId, SecretStore
from harbourmaster.core.secrets.errors import (
    SecretInvalid,
    SecretMissing,
    SecretsDamaged,
    SecretsExposed,
    SecretsKeyWrong,
    SecretsLocked,
    SecretUnknown,
)
from harbourmaster.core.settings import Settings
from tests.secrets.conftest import CANARY, TOKEN, MakeStore


def files(home: Path) -> list[Path]:
    return [p for p in home.rglob("*") if p.is_file()]


def test_a_value_comes_back_as_it_was_given(store: SecretStore, make_store: MakeStore) -> None:
    assert store.put(TOKEN, CANARY).source.kind == "age"
    assert make_store().get(TOKEN) == CANARY


def test_no_file_holds_a_value_and_each_is_for_its_owner_alone(store: SecretStore, home: Path) -> None:
    store.put(TOKEN, "canary-value")
    assert {p.name for p in files(home)} == {"secrets.age", "secrets.key", "index.json", "secrets.guard"}
    for path in files(home):
        assert b"canary-value" not in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_file_is_one_that_the_age_tool_opens(store: SecretStore, home: Path) -> None:
    store.put(TOKEN, "v" * 8)
    identity = pyrage.x25519.Identity.from_str((home / "keys/secrets.key").read_text().strip())
    plain = pyrage.decrypt((home / "secrets/secrets.age").read_bytes(), [identity])
    assert json.loads(plain) == {"version": 1, "values": {"alpha/alpha.token": "v" * 8}}


def test_rotate_keeps_the_date_of_birth_and_needs_something_to_rotate(store: SecretStore) -> None:
    with pytest.raises(SecretUnknown):
        store.rotate(TOKEN, "new-value")
    born = store.put(TOKEN, "old-value").created
    assert store.rotate(TOKEN, "new-value").created == born
    assert store.get(TOKEN) == "new-value"


def test_a_removed_secret_is_gone_from_the_file_too(store: SecretStore, home: Path) -> None:
    store.put(TOKEN, "value-one")
    store.put(SecretId("beta", "b"), "value-two")
    store.remove(TOKEN)
    with pytest.raises(SecretMissing) as missing:
        store.get(TOKEN)
    assert missing.value.remedy == "run: hm secret set alpha.token --server alpha"
    identity = pyrage.x25519.Identity.from_str((home / "keys/secrets.key").read_text().strip())
    assert b"value-one" not in pyrage.decrypt((home / "secrets/secrets.age").read_bytes(), [identity])
    with pytest.raises(SecretUnknown):
        store.remove(TOKEN)


@pytest.mark.parametrize("value", ["", "a\0b", "x" * (64 * 1024 + 1), "\udc80"], ids=["empty", "nul", "long", "bytes"])
def test_a_value_that_cannot_be_carried_is_refused_without_being_quoted(store: SecretStore, value: str) -> None:
    with pytest.raises(SecretInvalid) as refused:
        store.put(TOKEN, value)
    assert not value or value not in refused.value.message


@pytest.mark.parametrize(("server", "name"), [("..", "a"), ("a/b", "a"), ("a", "../x"), ("a", "A"), ("", "a")])
def test_a_name_that_could_be_a_path_is_refused(server: str, name: str) -> None:
    with pytest.raises(SecretInvalid):
        SecretId(server, name)


# -- others may read or write


@pytest.mark.parametrize("name", ["secrets/secrets.age", "keys/secrets.key", "secrets/index.json"])
def test_a_file_that_others_may_read_is_refused(store: SecretStore, home: Path, name: str) -> None:
    store.put(TOKEN, "value")
    (home / name).chmod(0o640)
    with pytest.raises(SecretsExposed) as refused:
        store.get(TOKEN)
    assert "chmod 600" in refused.value.remedy


@pytest.mark.parametrize("name", ["secrets", "keys"])
def test_a_folder_that_others_may_write_is_refused(make_store: MakeStore, home: Path, name: str) -> None:
    make_store().put(TOKEN, "value")
    (home / name).chmod(0o770)
    with pytest.raises(SecretsExposed, match="open to other users"):
        make_store().get(TOKEN)


def test_a_link_in_place_of_the_file_is_refused(store: SecretStore, home: Path, tmp_path: Path) -> None:
    store.put(TOKEN, "value")
    path = home / "secrets/secrets.age"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SecretsExposed):
        store.get(TOKEN)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_user_s_file_is_refused(store: SecretStore, home: Path) -> None:
    store.put(TOKEN, "value")
    os.chown(home / "keys/secrets.key", 12345, -1)
    with pytest.raises(SecretsExposed, match="belongs to user 12345"):
        SecretStore.get(store, TOKEN)


# -- damage


@pytest.mark.parametrize("keep", [0, 10, 60, -1], ids=["emptied", "head cut", "body cut", "last byte gone"])
def test_a_cut_file_is_an_error_and_is_left_alone(store: SecretStore, home: Path, keep: int) -> None:
    store.put(TOKEN, "value")
    path = home / "secrets/secrets.age"
    path.write_bytes(path.read_bytes()[:keep])
    before = path.read_bytes()
    for touch in (lambda: store.get(TOKEN), lambda: store.put(TOKEN, "other")):
        with pytest.raises((SecretsDamaged, SecretsKeyWrong)):
            touch()
    assert path.read_bytes() == before


def test_every_flipped_byte_is_noticed(store: SecretStore, home: Path) -> None:
    store.put(TOKEN, "value")
    path = home / "secrets/secrets.age"
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises((SecretsDamaged, SecretsKeyWrong)):
            store.get(TOKEN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2, "secrets": []}',
        '{"version": 1, "secrets": [{}]}',
        '{"version":1,"secrets":[{"server":"../x","name":"a","kind":"age","created":"","changed":""}]}',
        '{"version":1,"secrets":[{"server":"x","name":"a","kind":"cmd","created":"","changed":""}]}',
    ],
)
def test_an_index_that_is_not_ours_is_refused(store: SecretStore, home: Path, text: str) -> None:
    store.put(TOKEN, "value")
    (home / "secrets/index.json").write_text(text)
    with pytest.raises(SecretsDamaged):
        store.get(TOKEN)


def test_a_file_of_a_newer_version_is_refused(store: SecretStore, home: Path) -> None:
    store.put(TOKEN, "value")
    identity = pyrage.x25519.Identity.from_str((home / "keys/secrets.key").read_text().strip())
    newer = pyrage.encrypt(b'{"version": 2, "values": {}}', [identity.to_public()])
    (home / "secrets/secrets.age").write_bytes(newer)
    with pytest.raises(SecretsDamaged, match="newer version"):
        store.get(TOKEN)


# -- keys and passphrases


def test_another_key_opens_nothing_and_a_lost_key_is_never_replaced(make_store: MakeStore, home: Path) -> None:
    make_store().put(TOKEN, "value")
    key = home / "keys/secrets.key"
    key.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    with pytest.raises(SecretsKeyWrong):
        make_store().get(TOKEN)
    key.unlink()
    for touch in (lambda: make_store().get(TOKEN), lambda: make_store().put(TOKEN, "other")):
        with pytest.raises(SecretsLocked, match="is gone"):
            touch()
    assert not key.exists()


def test_a_damaged_key_is_not_quoted(make_store: MakeStore, home: Path) -> None:
    make_store().put(TOKEN, "value")
    key = home / "keys/secrets.key"
    key.write_text(key.read_text().strip()[:-1] + "q\n")
    with pytest.raises(SecretsDamaged) as refused:
        make_store().get(TOKEN)
    assert "AGE-SECRET" not in str(refused.value)
    assert refused.value.__context__ is None or refused.value.__suppress_context__


@pytest.fixture(scope="module")
def sealed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose key is sealed with ``horse``: made once, because scrypt is slow on purpose."""
    place = tmp_path_factory.mktemp("sealed") / "harbour"
    settings = Settings.load(home=place, secrets_passphrase="horse")
    SecretStore(settings, environ={}, keyring=lambda: None).put(TOKEN, "value")
    return place


@pytest.fixture
def sealed(sealed_once: Path, home: Path) -> Path:
    shutil.copytree(sealed_once, home)
    return home


@pytest.mark.slow
def test_a_passphrase_seals_the_key_from_the_first_secret_on(make_store: MakeStore, sealed: Path) -> None:
    assert b"AGE-SECRET-KEY" not in (sealed / "keys/secrets.key").read_bytes()
    assert make_store("horse").get(TOKEN) == "value"
    with pytest.raises(SecretsKeyWrong):
        make_store("donkey").get(TOKEN)


def test_a_sealed_key_without_a_passphrase_says_how_to_give_it(make_store: MakeStore, sealed: Path) -> None:
    assert make_store().sealed
    with pytest.raises(SecretsLocked) as locked:
        make_store().get(TOKEN)
    assert "HM_SECRETS_PASSPHRASE" in locked.value.remedy


def test_names_are_known_while_the_values_are_locked(make_store: MakeStore, sealed: Path) -> None:
    assert [held.id for held in make_store().list()] == [TOKEN]


@pytest.mark.slow
def test_a_passphrase_is_changed_under_a_running_process_and_taken_away(make_store: MakeStore, sealed: Path) -> None:
    answers = iter(["horse", "cow"])
    running = make_store(ask=lambda: next(answers))
    assert running.get(TOKEN) == running.get(TOKEN) == "value"
    make_store("horse").seal("cow")
    assert running.get(TOKEN) == "value"
    make_store("cow").seal("")
    assert make_store().get(TOKEN) == "value"


# -- several at a time


def put_some(home: str, number: int) -> None:
    store = SecretStore(Settings.load(home=Path(home)), environ={}, keyring=lambda: None)
    for turn in range(5):
        store.put(SecretId("alpha", f"s{number}.{turn}"), f"value-{number}-{turn}")


def test_processes_that_write_at_once_lose_nothing(home: Path, store: SecretStore) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=put_some, args=(str(home), n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [w.exitcode for w in writers] == [0] * 4
    assert len(store.list()) == 20
    for n in range(4):
        for turn in range(5):
            assert store.get(SecretId("alpha", f"s{n}.{turn}")) == f"value-{n}-{turn}"


def test_a_write_that_fails_leaves_what_was(store: SecretStore, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(TOKEN, "old-value")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.put(TOKEN, "new-value")
    assert store.get(TOKEN) == "old-value"
    assert sorted(p.name for p in (home / "secrets").iterdir()) == ["index.json", "secrets.age", "secrets.guard"]


def test_every_error_has_a_code_of_its_own_and_says_what_to_do() -> None:
    from harbourmaster.core.secrets import errors

    kinds = [e for e in vars(errors).values() if isinstance(e, type) and e.__module__ == errors.__name__]
    assert len({e.code for e in kinds if issubclass(e, HarbourError)}) == len(kinds) == 9
