"""``hm lock show``: the file of digests and pins."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from gateway.cli_output import columns
from gateway.lock import read_lock
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
    sys.stdout.write(columns(("SERVER", "STATE", "IMAGE", "SIGNER", "PROFILE", "PIN"), rows))
