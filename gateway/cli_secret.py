"""``hm secret set|ls|rm|rotate|passphrase``: the secrets that servers get.  No value is ever printed."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from gateway.cli_output import columns
from gateway.cli_secret_names import declarations, server_of
from harbourmaster.core.program import as_typed
from harbourmaster.core.redaction import IN_USE
from harbourmaster.core.secrets import SecretId, SecretStore
from harbourmaster.core.secrets.errors import SecretInvalid
from harbourmaster.core.secrets.index import Held
from harbourmaster.core.secrets.model import MAX_VALUE_BYTES, parse_source, without_newline
from harbourmaster.core.secrets.terminal import ask, ask_passphrase, can_ask
from harbourmaster.core.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The secrets that servers get")

# A list, so that no word is left for the parser to quote in a complaint: it could be a value.
Words = Annotated[list[str], typer.Argument(metavar="NAME[=VALUE] [-]", help="NAME asks; NAME - reads stdin")]
Server = Annotated[str, typer.Option("--server", "-s", help="whose; not needed where one server declares NAME")]
ON_COMMAND_LINE = (
    "warning: a value on the command line can be read by other programs while the command runs, and stays in your "
    "shell's history; next time: hm secret set NAME\n"
)


@app.command("set")
def set_(
    words: Words,
    server: Server = "",
    source: Annotated[str, typer.Option("--from", help="env:NAME, file:/path or 'cmd:op read op://...'")] = "",
) -> None:
    """Keep a secret for one server, or say where to read it at every start.

    hm secret set github.token          asks for the value, without showing it
    pass show github | hm secret set github.token -
    hm secret set github.token --from 'cmd:op read op://vault/github/token'
    """
    given = _parse(words)
    settings = Settings.load()
    secret = SecretId(server_of(settings, given.name, server), given.name)
    store = _store(settings)
    if source:
        if given.stdin or given.value is not None:
            raise SecretInvalid("a value and --from do not go together", remedy="give one of them")
        held = store.refer(secret, parse_source(source))
    else:
        held = store.put(secret, given.read(secret))
    print(f"{secret.name} of {secret.server} is set ({_place(held)})")
    _say_when(secret)


@app.command("rotate")
def rotate(words: Words, server: Server = "") -> None:
    """Replace the value of a secret that is kept here; the next sandbox gets the new one."""
    given = _parse(words)
    settings = Settings.load()
    secret = SecretId(server_of(settings, given.name, server), given.name)
    store = _store(settings)
    if not store.has(secret):
        store.remove(secret)  # says that there is none, before a person types a value for nothing
    held = store.rotate(secret, given.read(secret))
    print(f"{secret.name} of {secret.server} is rotated ({_place(held)})")
    _say_when(secret)


@app.command("rm")
def rm(name: Annotated[str, typer.Argument(metavar="NAME")], server: Server = "") -> None:
    """Forget a secret."""
    settings = Settings.load()
    store = _store(settings)
    secret = SecretId(server_of(settings, name, server, [h.id for h in store.list()]), name)
    store.remove(secret)
    print(f"{secret.name} of {secret.server} is removed")


@app.command("ls")
def ls(server: Server = "", as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False) -> None:
    """What is set and what is missing, by server; never a value."""
    settings = Settings.load()
    rows = [row for row in _rows(settings, _store(settings)) if not server or row["server"] == server]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    header = ("SERVER", "NAME", "STATE", "KEPT", "CHANGED", "GIVEN AS")
    shown = [[row[key] or "" for key in ("server", "name", "state", "kept", "changed", "given_as")] for row in rows]
    sys.stdout.write(columns(header, shown) if rows else "no secrets, and no server that wants any\n")
    wanted = [SecretId(row["server"], row["name"]) for row in rows if row["state"] == "missing"]
    sys.stdout.write(as_typed("".join(f"set it: {each.set_command}\n" for each in wanted)))


@app.command("passphrase")
def passphrase(
    remove: Annotated[bool, typer.Option("--remove", help="no passphrase any more, only the key file's mode")] = False,
) -> None:
    """Seal the key of the age file with a passphrase, or with another one.  HM_SECRETS_PASSPHRASE opens it unattended."""
    store = _store(Settings.load())
    new = "" if remove else _new_passphrase()
    store.seal(new)
    print("the key of the secrets is sealed with the new passphrase" if new else "the key has no passphrase any more")


@dataclass(frozen=True)
class _Given:
    name: str
    value: str | None = None
    stdin: bool = False

    def __repr__(self) -> str:
        return f"<value for {self.name}>"

    def read(self, secret: SecretId) -> str:
        """The value, from where it was said to come; asked for on a terminal."""
        if self.value is not None:
            IN_USE.add([self.value])
            sys.stderr.write(as_typed(ON_COMMAND_LINE))
            return self.value
        value = _stdin() if self.stdin else self._asked(secret)
        IN_USE.add([value])
        return value

    def _asked(self, secret: SecretId) -> str:
        if not can_ask():
            raise SecretInvalid(
                "there is no terminal to ask at", remedy=f"pipe the value: {secret.set_command} - (mind the dash)"
            )
        return ask(f"Value of {secret.name} for {secret.server}")


def _parse(words: list[str]) -> _Given:
    """``NAME``, ``NAME=VALUE``, ``NAME=-`` or ``NAME -``.  No error quotes what could be a value."""
    name, equals, value = words[0].partition("=")
    if len(words) > 2 or (len(words) == 2 and (equals or words[1] != "-")):
        raise SecretInvalid("too many words", remedy="hm secret set NAME, or NAME=VALUE, or NAME - to read stdin")
    if len(words) == 2 or (equals and value == "-"):
        return _Given(name, stdin=True)
    return _Given(name, value if equals else None)


def _stdin() -> str:
    raw = sys.stdin.buffer.read(MAX_VALUE_BYTES + 3)
    try:
        return without_newline(raw.decode())
    except UnicodeDecodeError:
        raise SecretInvalid("the value is not text in UTF-8", remedy="encode it, in base64 say") from None


def _new_passphrase() -> str:
    if not can_ask():
        return without_newline(sys.stdin.readline())
    new = ask("New passphrase of the secrets")
    if not new or new != ask("The same again"):
        raise SecretInvalid("the two were not the same, or empty", remedy="try again; nothing was changed")
    return new


def _store(settings: Settings) -> SecretStore:
    return SecretStore.of(settings, ask=ask_passphrase)


def _place(held: Held) -> str:
    kept = {"keyring": "in the system's keyring", "age": "in an encrypted file"}
    return kept.get(held.source.kind, f"read from {held.source} at every start")


def _say_when(secret: SecretId) -> None:
    sys.stderr.write(
        as_typed(
            f"the next sandbox of {secret.server} gets it; end running ones (hm sandbox ps) with: hm sandbox stop NAME\n"
        )
    )


def _rows(settings: Settings, store: SecretStore) -> list[dict[str, Any]]:
    held = {each.id: each for each in store.list()}
    declared = {SecretId(s, d.name): d for s, each in declarations(settings).items() for d in each}
    return [_row(each, held.get(each), declared.get(each)) for each in sorted({*held, *declared})]


def _row(secret: SecretId, held: Held | None, declared: Any) -> dict[str, Any]:
    absent = "missing" if declared and declared.required else "optional"
    return {
        "server": secret.server,
        "name": secret.name,
        "state": "set" if held else absent,
        "kept": str(held.source) if held else None,
        "created": held.created if held else None,
        "changed": held.changed if held else None,
        "given_as": (f"{'file, path in ' if declared.as_file else ''}{declared.variable}") if declared else None,
    }
