"""``hm token show|ls|create|revoke``: the bearer tokens that clients present."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gateway.tokens import TokenStore
from harbourmaster.core.settings import Settings

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="what the token is for; audit records carry it")]


@app.command("show")
def show() -> None:
    """Print the default token, alone on a line; it is made on first use."""
    print(_store().default())


@app.command("ls")
def ls(as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False) -> None:
    """The tokens by name; never their values."""
    tokens = _store().list()
    if as_json:
        print(json.dumps([{"name": t.name, "created": t.created, "sha256": t.sha256} for t in tokens], indent=2))
        return
    width = max((len(t.name) for t in tokens), default=4)
    for token in tokens:
        print(f"{token.name:<{width}}  {token.created}  sha256:{token.sha256[:12]}")


@app.command("create")
def create(name: Name) -> None:
    """Make a token for one client or person and print it; it is shown this once."""
    print(_store().create(name))


@app.command("revoke")
def revoke(name: Name) -> None:
    """Forget a token; whoever holds it is refused from now on."""
    _store().revoke(name)
    print(f"{name} is revoked")


def _store() -> TokenStore:
    return TokenStore(Settings.load().tokens_file)
