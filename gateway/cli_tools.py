"""``hm tools ls|inspect|count|call``: what the enabled servers offer.  Listing reads the lock; nothing needs to run."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Annotated, Any

import typer

from gateway.cli_arguments import describe
from gateway.cli_call import call
from gateway.cli_lookup import Tool, find, tools_of, tools_of_profile
from gateway.cli_output import columns, one_line, visible
from gateway.lock import LockedServer, read_lock
from harbourmaster.core.settings import Settings

app = typer.Typer(no_args_is_help=True)
app.command("call", help="Call a tool; the same as: hm call")(call)

Json = Annotated[bool, typer.Option("--json", help="machine-readable")]


@app.command("ls")
def ls(
    server: Annotated[str, typer.Option(help="only this server's")] = "",
    profile: Annotated[str, typer.Option(help="of this profile; default: of all enabled servers")] = "",
    as_json: Json = False,
) -> None:
    """The tools of all enabled servers, or of a profile, by the names that clients see."""
    tools = [
        t
        for t in (tools_of_profile(Settings.load(), profile) if profile else tools_of(_lock()))
        if not server or t.server == server
    ]
    if as_json:
        print(json.dumps([_row(t) for t in tools], indent=2, ensure_ascii=False))
        return
    rows = [(t.public, t.server, one_line(_description(t))) for t in tools]
    sys.stdout.write(columns(("TOOL", "SERVER", "WHAT IT DOES"), rows) if rows else "no tools: no server is enabled\n")


@app.command("inspect")
def inspect(
    name: Annotated[str, typer.Argument(metavar="NAME", help="SERVER.TOOL, or the tool's name")], as_json: Json = False
) -> None:
    """One tool: what it does, its arguments, what it says about itself."""
    tool = find(_lock(), name)
    if as_json:
        print(json.dumps({"server": tool.server, "publicName": tool.public, **tool.body}, indent=2, ensure_ascii=False))
        return
    sys.stdout.write(_page(tool))


@app.command("count")
def count(as_json: Json = False) -> None:
    """How many tools clients see, and of which servers."""
    by_server = Counter(t.server for t in tools_of(_lock()))
    if as_json:
        print(json.dumps({"total": by_server.total(), "servers": dict(sorted(by_server.items()))}, indent=2))
        return
    rows = [(name, str(number)) for name, number in sorted(by_server.items())]
    sys.stdout.write(columns(("SERVER", "TOOLS"), [*rows, ("total", str(by_server.total()))]))


def _row(tool: Tool) -> dict[str, Any]:
    return {"name": tool.public, "server": tool.server, "tool": tool.name, "description": _description(tool)}


def _page(tool: Tool) -> str:
    lines = [f"{tool.dotted}   (clients see: {tool.public})", "", visible(_description(tool)).strip(), ""]
    rows = [
        (key, kind, "required" if must else "", " ".join(visible(text).split()))
        for key, kind, must, text in describe(tool.schema)
    ]
    lines.append(columns(("ARGUMENT", "TYPE", "", ""), rows).rstrip() if rows else "It takes no arguments.")
    hints = tool.body.get("annotations")
    if isinstance(hints, dict) and hints:
        told = ", ".join(f"{k}={json.dumps(v)}" for k, v in sorted(hints.items()))
        lines += ["", f"The server says of it (unverified): {visible(told)}"]
    if "outputSchema" in tool.body:
        lines += ["", "It returns structured content; --json shows its schema."]
    return "\n".join(lines) + "\n"


def _description(tool: Tool) -> str:
    return str(tool.body.get("description") or tool.body.get("title") or "")


def _lock() -> dict[str, LockedServer]:
    return read_lock(Settings.load().lock_file)
