"""Values that live elsewhere, and the system's keyring."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import keyring.backend
import keyring.backends.fail
import keyring.errors
import pytest

from harbourmaster.core.secrets import SecretStore
from harbourmaster.core.secrets.errors import KeyringFailed, SecretInvalid, SecretSourceFailed
from harbourmaster.core.secrets.keyrings import Keyring, usable_keyring
from harbourmaster.core.secrets.model import parse_source
from tests.secrets.conftest import TOKEN, MakeStore


def refer(store: SecretStore, text: str) -> str:
    store.refer(TOKEN, parse_source(text))
    return store.get(TOKEN)


def test_a_variable_is_read_at_every_start(make_store: MakeStore) -> None:
    environ = {"GITHUB_TOKEN": "first"}
    store = make_store(environ=environ)
    assert refer(store, "env:GITHUB_TOKEN") == "first"
    environ["GITHUB_TOKEN"] = "second"
    assert store.get(TOKEN) == "second"
    environ.clear()
    with pytest.raises(SecretSourceFailed, match="env:GITHUB_TOKEN"):
        store.get(TOKEN)


def test_a_mounted_secret_is_read_without_its_last_newline(store: SecretStore, tmp_path: Path) -> None:
    real = tmp_path / "..data" / "token"  # as Kubernetes does it: a link to what is swapped as a whole
    real.parent.mkdir()
    real.write_text("from a file\n")
    (tmp_path / "token").symlink_to(real)
    assert refer(store, f"file:{tmp_path}/token") == "from a file"


@pytest.mark.parametrize("kind", ["absent", "folder", "pipe", "empty", "binary"])
def test_a_file_that_holds_no_value_is_an_error_and_never_a_hang(store: SecretStore, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "x"
    {
        "absent": lambda: None,
        "folder": place.mkdir,
        "pipe": lambda: os.mkfifo(place),
        "empty": place.touch,
        "binary": lambda: place.write_bytes(b"\xff\xfe"),
    }[kind]()
    with pytest.raises(SecretSourceFailed):
        refer(store, f"file:{place}")


def test_a_command_runs_without_a_shell_and_without_our_settings(make_store: MakeStore, tmp_path: Path) -> None:
    program = tmp_path / "op"
    program.write_text(f"#!{sys.executable} -S\nimport os, sys\nprint(sys.argv[1:], sorted(os.environ))\n")
    program.chmod(0o700)
    store = make_store(environ={"PATH": "/bin", "HM_SECRETS_PASSPHRASE": "canary"})
    said = refer(store, f"cmd:{program} read 'op://a b/c' '$(id)' ';' '|'")
    assert said.startswith("['read', 'op://a b/c', '$(id)', ';', '|']")
    assert "HM_SECRETS_PASSPHRASE" not in said


def test_a_command_that_fails_is_named_and_not_quoted(store: SecretStore, tmp_path: Path) -> None:
    program = tmp_path / "op"
    program.write_text("#!/bin/sh\necho canary-out; echo canary-err >&2; exit 3\n")
    program.chmod(0o700)
    with pytest.raises(SecretSourceFailed, match="status 3") as failed:
        refer(store, f"cmd:{program}")
    assert "canary" not in json.dumps(failed.value.as_dict())
    with pytest.raises(SecretSourceFailed, match="No such file"):
        refer(store, f"cmd:{tmp_path}/absent")


def test_a_command_that_hangs_is_ended_with_its_children(
    store: SecretStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harbourmaster.core.secrets import sources

    monkeypatch.setattr(sources, "COMMAND_TIMEOUT_S", 0.3)
    program = tmp_path / "op"
    program.write_text(f"#!/bin/sh\nsleep 600 & echo $! > {tmp_path}/child; wait\n")
    program.chmod(0o700)
    with pytest.raises(SecretSourceFailed, match="did not end"):
        refer(store, f"cmd:{program}")
    with contextlib.suppress(ProcessLookupError):  # gone already
        child = os.pidfd_open(int((tmp_path / "child").read_text()))
        assert select.select([child], [], [], 30)[0], "it lives on"
        os.close(child)


@pytest.mark.parametrize("text", ["", "env:", "env:A B", "file:relative", "file:", "cmd:", "cmd:'x", "http:x", "A"])
def test_a_source_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SecretInvalid):
        parse_source(text)


def test_a_secret_that_lives_elsewhere_is_rotated_there(make_store: MakeStore) -> None:
    store = make_store(environ={"T": "there"})
    refer(store, "env:T")
    with pytest.raises(SecretInvalid, match="env:T"):
        store.rotate(TOKEN, "here")
    store.put(TOKEN, "here")
    assert store.get(TOKEN) == "here"


# -- the keyring


class InMemory(keyring.backend.KeyringBackend):
    """A backend by the rules of the keyring library."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked("canary")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


def test_where_a_keyring_is_it_keeps_the_values_and_no_file_is_made(make_store: MakeStore, home: Path) -> None:
    backend = InMemory()
    store = make_store(keyring=lambda: Keyring(backend, "harbourmaster:x"))
    assert store.put(TOKEN, "value").source.kind == "keyring"
    assert backend.kept == {("harbourmaster:x", "alpha/alpha.token"): "value"}
    assert store.get(TOKEN) == "value"
    assert not (home / "secrets/secrets.age").exists()
    store.remove(TOKEN)
    assert backend.kept == {}


def test_a_secret_moves_to_the_file_when_the_keyring_is_not_wanted_any_more(make_store: MakeStore) -> None:
    backend = InMemory()
    make_store(keyring=lambda: Keyring(backend, "s")).put(TOKEN, "old-value")
    store = make_store(keyring=lambda: Keyring(backend, "s"), backend="age")
    assert store.get(TOKEN) == "old-value"
    assert store.put(TOKEN, "new-value").source.kind == "age"
    assert backend.kept == {}


def test_a_locked_keyring_and_an_absent_one_are_errors_and_not_a_missing_secret(make_store: MakeStore) -> None:
    backend = InMemory()
    make_store(keyring=lambda: Keyring(backend, "s")).put(TOKEN, "value")
    with pytest.raises(KeyringFailed, match="no system keyring"):
        make_store().get(TOKEN)
    backend.locked = True
    with pytest.raises(KeyringFailed, match="KeyringLocked") as failed:
        make_store(keyring=lambda: Keyring(backend, "s")).get(TOKEN)
    assert "canary" not in str(failed.value)


def test_a_keyring_that_is_no_system_s_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in (InMemory(), keyring.backends.fail.Keyring()):
        monkeypatch.setattr(keyring, "get_keyring", lambda found=backend: found)
        assert usable_keyring() is None


WITH_A_DESKTOP = """
printf 'desktop\\n' | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1
printf 'canary-in-keyring' | "$PY" -m harbourmaster secret set alpha.token - --server alpha
"$PY" -c '
from harbourmaster.core.secrets import *; from harbourmaster.core.settings import Settings
print(SecretStore.of(Settings.load()).get(SecretId("alpha", "alpha.token")))'
"$PY" -m harbourmaster secret rm alpha.token
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("gnome-keyring-daemon") and shutil.which("dbus-run-session")), reason="no Secret Service here"
)
def test_a_real_secret_service_keeps_gives_and_forgets(home: Path, tmp_path: Path) -> None:
    for folder in ("data", "run"):
        (tmp_path / folder).mkdir(mode=0o700)
    environ = {
        "PATH": os.environ["PATH"],
        "PY": sys.executable,
        "HM_HOME": str(home),
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", WITH_A_DESKTOP], env=environ, capture_output=True, text=True, timeout=60
    )
    assert "in the system's keyring" in done.stdout, done.stderr
    assert "canary-in-keyring\n" in done.stdout
    assert "is removed" in done.stdout
    assert not (home / "secrets/secrets.age").exists()
