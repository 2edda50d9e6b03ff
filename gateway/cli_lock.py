"""``hm lock``: the file of digests and pins; what it says, what it would say, and who agreed to that."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from gateway.cli_complete import servers
from gateway.cli_output import columns
from gateway.lock import read_lock
from harbourmaster.core.program import as_typed
from harbourmaster.core.settings import Settings

app = typer.Typer(no_args_is_help=True)


@app.callback()
def lock() -> None:
    """The file of digests and pins."""


@app.command("show")
def show(as_json: Annotated[bool, typer.Option("--json", help="the lock itself")] = False) -> None:
    """Each server's image, signer, profile and pin; reading it checks every listing against its pin."""
    path = Settings.load().lock_file
    locked = read_lock(path)
    if as_json:
        sys.stdout.write(path.read_text() if locked else json.dumps({"version": 1, "servers": {}}) + "\n")
        return
    rows = [
        (s.name, "enabled" if s.enabled else "disabled", s.image[:19], s.signer[:40], s.profile[:19], s.pin[:19])
        for _, s in sorted(locked.items())
    ]
    header = ("SERVER", "STATE", "IMAGE", "SIGNER", "PROFILE", "PIN")
    sys.stdout.write(
        columns(header, rows) if rows else as_typed("nothing is locked yet: hm up builds the starter servers\n")
    )


Yes = Annotated[bool, typer.Option("--yes", "-y", help="agree to what is shown")]


@app.command("diff")
def diff(name: Annotated[str, typer.Argument(help="a server; default: each", autocompletion=servers)] = "") -> None:
    """What servers say now and what they were locked with, to be reviewed; exit status 1 when something differs."""
    from harbourmaster.up.relocking import diff as diff_now

    if diff_now(Settings.load(), name, _say):
        raise typer.Exit(1)


@app.command("update")
def update(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="servers; default: all locked")] = None,
    yes: Yes = False,
) -> None:
    """Verify images anew and lock what is proved, after showing what changes."""
    from harbourmaster.up.relocking import update as update_now

    update_now(Settings.load(), tuple(names or ()), _say, yes=yes)


@app.command("approve")
def approve(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a server", autocompletion=servers)], yes: Yes = False
) -> None:
    """Serve a server as it was found running, though it was locked otherwise, after showing the difference."""
    from harbourmaster.up.relocking import approve as approve_now

    approve_now(Settings.load(), name, _say, yes=yes)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
