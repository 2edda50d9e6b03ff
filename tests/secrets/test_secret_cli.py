"""``hm secret`` as people type it: through pipes, and at a terminal that shows everything it is sent."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.lock import write_lock
from harbourmaster.core.secrets import DeclaredSecret, SecretId
from harbourmaster.core.settings import Settings
from tests.gateway.harness import locked
from tests.secrets.conftest import TOKEN, MakeStore

Done = subprocess.CompletedProcess[str]
Hm = Callable[..., Done]


@pytest.fixture
def hm(home: Path) -> Hm:
    def run(*words: str, stdin: str = "", **environ: str) -> Done:
        argv = [sys.executable, "-m", "harbourmaster", *words]
        environment = {**os.environ, "HM_SECRETS_BACKEND": "age", **environ}
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, env=environment, timeout=60)

    return run


@pytest.fixture
def servers(settings: Settings) -> None:
    """alpha wants a token; beta and gamma both want ``shared``, gamma can do without."""
    wants = {
        "alpha": [DeclaredSecret("alpha.token", "TOKEN")],
        "beta": [DeclaredSecret("shared", "A", as_file=True)],
        "gamma": [DeclaredSecret("shared", "B", required=False)],
    }
    lock = {
        name: locked(name, enabled=name != "alpha", run={"secrets": [each.as_dict() for each in declared]})
        for name, declared in wants.items()
    }
    settings.home.mkdir()
    write_lock(settings.lock_file, lock)


def test_a_piped_value_is_kept_for_the_one_server_that_declares_it(
    hm: Hm, servers: None, make_store: MakeStore
) -> None:
    done = hm("secret", "set", "alpha.token", "-", stdin="canary line 1\nline 2\n")
    assert (done.returncode, done.stdout) == (0, "alpha.token of alpha is set (in an encrypted file)\n")
    assert make_store().get(TOKEN) == "canary line 1\nline 2"
    assert "canary" not in done.stdout + done.stderr


def test_a_value_on_the_command_line_is_taken_with_a_warning(hm: Hm, servers: None, make_store: MakeStore) -> None:
    done = hm("secret", "set", "alpha.token=canary=x")
    assert make_store().get(TOKEN) == "canary=x"
    assert "warning: a value on the command line" in done.stderr
    assert "canary" not in done.stdout + done.stderr


def test_two_servers_that_want_the_same_name_must_be_told_apart(hm: Hm, servers: None, make_store: MakeStore) -> None:
    done = hm("secret", "set", "shared", "-", stdin="value")
    assert done.returncode == 2
    assert "beta, gamma all have a secret shared" in done.stderr
    assert hm("secret", "set", "shared", "-", "--server", "gamma", stdin="value").returncode == 0
    assert make_store().has(SecretId("gamma", "shared"))
    assert not make_store().has(SecretId("beta", "shared"))


@pytest.mark.parametrize(
    "words",
    [
        ("set", "alpha.token", "canary"),
        ("set", "alpha.token=canary", "-"),
        ("set", "alpha.token", "-", "canary"),
        ("set", "canary/../x=canary"),
        ("set", "alpha.token=canary", "--server", "beta"),
        ("set", "alpha.token=canary", "--from", "env:X"),
        ("set", "alpha.token", "--from", "canary"),
        ("rotate", "alpha.token=canary"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_refused_without_repeating_what_was_typed(hm: Hm, servers: None, words: tuple[str, ...]) -> None:
    done = hm("secret", *words)
    assert done.returncode in (1, 2)
    assert "canary" not in done.stdout + done.stderr
    assert "what to do:" in done.stderr


def test_ls_shows_what_is_set_and_how_to_set_what_is_missing(hm: Hm, servers: None) -> None:
    hm("secret", "set", "alpha.token", "-", stdin="canary")
    hm("secret", "set", "shared", "--server", "gamma", "--from", "cmd:op read 'op://a b/c'")
    rows = {row["server"]: row for row in json.loads(hm("secret", "ls", "--json").stdout)}
    assert {s: rows[s]["state"] for s in ("alpha", "beta", "gamma")} == {
        "alpha": "set",
        "beta": "missing",
        "gamma": "set",
    }
    assert rows["gamma"]["kept"] == "cmd:op read 'op://a b/c'"
    assert rows["beta"]["given_as"] == "file, path in A_FILE"
    text = hm("secret", "ls").stdout
    assert "set it: hm secret set shared --server beta\n" in text
    assert "canary" not in text


def test_rotate_and_rm_act_on_what_is_there(hm: Hm, servers: None, make_store: MakeStore) -> None:
    assert "secret.unknown" in hm("secret", "rotate", "alpha.token", "-", stdin="x").stderr
    hm("secret", "set", "alpha.token", "-", stdin="old-value")
    assert hm("secret", "rotate", "alpha.token", "-", stdin="new-value").returncode == 0
    assert make_store().get(TOKEN) == "new-value"
    assert hm("secret", "rm", "alpha.token").returncode == 0
    assert not make_store().has(TOKEN)


def test_enabling_a_server_and_listing_servers_say_what_is_missing(hm: Hm, servers: None) -> None:
    needs = "alpha does not start without alpha.token; run: hm secret set alpha.token --server alpha"
    done = hm("server", "enable", "alpha")
    assert (done.returncode, done.stdout) == (0, "alpha is enabled\n")
    assert needs in done.stderr
    listed = hm("server", "ls")
    assert "enabled, needs 1 secret " in listed.stdout
    assert needs in listed.stderr
    rows = {row["name"]: row["missing_secrets"] for row in json.loads(hm("server", "ls", "--json").stdout)}
    assert rows == {"alpha": ["alpha.token"], "beta": ["shared"], "gamma": []}
    hm("secret", "set", "alpha.token", "-", stdin="value")
    assert needs not in hm("server", "ls").stderr


def test_without_a_terminal_or_a_dash_nothing_is_read(hm: Hm, servers: None) -> None:
    done = hm("secret", "set", "alpha.token", stdin="canary")
    assert done.returncode == 2
    assert "there is no terminal" in done.stderr


def test_at_a_terminal_the_value_is_asked_for_and_not_shown(home: Path, servers: None, make_store: MakeStore) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["HM_SECRETS_BACKEND"] = "age"
        os.execv(sys.executable, [sys.executable, "-m", "harbourmaster", "secret", "set", "alpha.token"])
    shown, answered = b"", False
    with contextlib.suppress(OSError):  # Linux reports the end of a terminal as EIO
        while select.select([terminal], [], [], 30)[0] and (chunk := os.read(terminal, 1024)):
            shown += chunk
            if not answered and b"for alpha: " in shown:
                answered = bool(os.write(terminal, b"canary-typed\n"))
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"is set" in shown
    assert b"canary" not in shown
    assert make_store().get(TOKEN) == "canary-typed"


def test_a_crash_prints_no_value(home: Path) -> None:
    program = (
        "from harbourmaster.core.secrets import *; from harbourmaster.core.settings import Settings\n"
        "s = SecretStore.of(Settings.load(secrets_backend='age')); i = SecretId('alpha', 't')\n"
        "s.put(i, open(0).read()); v = deliver(s, 'alpha', [DeclaredSecret('t', 'T')])\n"
        "raise ValueError(f'{v} {v.env}')"
    )
    done = subprocess.run([sys.executable, "-c", program], input="canary-crash", capture_output=True, text=True)
    assert done.returncode == 1
    assert "ValueError: Delivery(secret_env=frozenset({'T'})) {'T': '[redacted]'}" in done.stderr
    assert "canary" not in done.stderr
