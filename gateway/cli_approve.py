"""``hm approve ls|yes|no``: calls that a policy wants a person to look at first."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.authorization.errors import ApprovalUnknown
from gateway.authorization.held_calls import answer, held_calls
from gateway.cli_output import visible
from harbourmaster.core.settings import Settings

app = typer.Typer(no_args_is_help=True)

Held = Annotated[str, typer.Argument(metavar="ID", help="as `hm approve ls` shows it")]


@app.command("ls")
def ls(as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False) -> None:
    """The calls that wait, with their arguments and the policy that holds them."""
    held = held_calls(_folder())
    if as_json:
        print(json.dumps(held, indent=2))
        return
    if not held:
        print("no call waits for a yes")
    for facts in held:
        print(f"{facts['id']}  {visible(_what(facts))}")
        for because in facts["because"]:
            print(f"    {visible(because['reason'])} ({because['policy']})")
        print("\n".join(f"    {visible(line)}" for line in facts["arguments"].splitlines()))


@app.command("yes")
def yes(held: Held) -> None:
    """Let this one call go on."""
    _say(held, True)


@app.command("no")
def no(held: Held) -> None:
    """Refuse this call; its client is told that a person said no."""
    _say(held, False)


def _say(held: str, agreed: bool) -> None:
    folder = _folder()
    found = next((facts for facts in held_calls(folder) if facts["id"] == held), None)
    if found is None:
        raise ApprovalUnknown(f"no call {held} waits", remedy="see: hm approve ls")
    answer(folder, held, agreed)
    print(f"{'allowed' if agreed else 'refused'}: {visible(_what(found))}")


def _what(facts: dict[str, Any]) -> str:
    left = max(0, int(facts["until"] - time.time()))
    who = f"{facts['principal']} ({facts['client']})"
    return f"{facts['tool']} of {facts['server']}, for {who}, {left} s left"


def _folder() -> Path:
    return Settings.load().approvals_dir
