"""``hm client ls|connect|disconnect``: other people's MCP clients, configured in their own files."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from gateway.cli_complete import clients
from gateway.cli_output import columns, short_path
from gateway.clients.connector import choose_transport, connect, current, disconnect, snippet
from gateway.clients.entry import Endpoint, Transport, entry, merged, transport_of
from gateway.clients.places import Places, Scope, client_named, file_of, is_installed, path_of
from gateway.clients.table import CLIENTS, Client
from harbourmaster.core import program
from harbourmaster.core.errors import ConfigError, UsageError
from harbourmaster.core.files import file_lock
from harbourmaster.core.running import gateway_url, url_of
from harbourmaster.core.settings import DEFAULT_HOME, Settings

app = typer.Typer(no_args_is_help=True)

State = Literal["connected", "outdated", "not connected", "unreadable"]
_PROFILE = re.compile(r'/mcp/([a-z0-9-]+)"|"--profile", "([a-z0-9-]+)"')

Name = Annotated[str, typer.Argument(metavar="NAME", help="a client; see: hm client ls", autocompletion=clients)]
Project = Annotated[bool, typer.Option("--project", help="this directory's file instead of the user's")]


@app.command("ls")
def ls(
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
    project: Project = False,
) -> None:
    """The clients we can configure, which are installed, and which are connected."""
    settings, places, scope = Settings.load(), _places(), _scope(project)
    rows = [_row(c, scope, places, settings) for c in CLIENTS if scope == "user" or c.project is not None]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    header = ("CLIENT", "INSTALLED", "STATE", "TRANSPORT", "FILE")
    cells = [
        (
            r["name"],
            "yes" if r["installed"] else "-",
            r["state"],
            r["transport"] or "-",
            short_path(r["path"], places.home),
        )
        for r in rows
    ]
    sys.stdout.write(columns(header, cells))


@app.command("connect")
def connect_command(
    name: Name,
    project: Project = False,
    transport: Annotated[str, typer.Option(help="http or stdio; default: http, in a project stdio")] = "",
    profile: Annotated[str, typer.Option(help="the profile that the client sees; default: default")] = "",
    show: Annotated[bool, typer.Option("--print", help="show what would be written, and write nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Write this gateway into the client's own configuration file; again is harmless."""
    settings, places, scope = Settings.load(), _places(), _scope(project)
    client = client_named(name)
    chosen = choose_transport(client, scope, _transport(transport))
    endpoint = _endpoint(settings, places, _profile(settings, profile))
    token = _token(settings) if chosen == "http" else ""
    if show:
        sys.stdout.write(snippet(client, scope, chosen, endpoint, token))
        return
    installed = is_installed(client, places)
    with file_lock(settings.run_dir / "clients.guard"):
        change = connect(client, scope, places, chosen, endpoint, token)
    if as_json:
        print(json.dumps(_said(change.path, change.changed, change.backup)))
        return
    print(f"{client.title} is connected{'' if change.changed else ' already'}: {change.path}")
    if not installed:
        sys.stderr.write(f"note: there is no sign of {client.title} on this machine\n")
    if change.backup:
        print(f"  the file as it was: {change.backup}")
    if change.changed:
        print(f"  now: {client.reload}")
    usual = url_of(settings.gateway_host, settings.gateway_port)
    if chosen == "http" and not endpoint.url.startswith(usual):
        told = f"note: the gateway runs at {endpoint.url} now, but {usual} is what its settings say; "
        sys.stderr.write(f"{told}put the port into {settings.home / 'config.toml'} (gateway_port = ...) to keep it\n")
    if project and chosen == "http":
        sys.stderr.write(f"warning: {change.path} now holds a token; keep it out of version control\n")


@app.command("disconnect")
def disconnect_command(
    name: Name,
    project: Project = False,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Take this gateway out of the client's own configuration file; again is harmless."""
    settings, places, client = Settings.load(), _places(), client_named(name)
    with file_lock(settings.run_dir / "clients.guard"):
        change = disconnect(client, _scope(project), places)
    if as_json:
        print(json.dumps(_said(change.path, change.changed, change.backup)))
        return
    print(f"{client.title} is {'disconnected' if change.changed else 'not connected'}: {change.path}")


def _row(client: Client, scope: Scope, places: Places, settings: Settings) -> dict[str, Any]:
    row = {
        "name": client.name,
        "title": client.title,
        "installed": is_installed(client, places),
        "path": _shown_path(client, scope, places),
        "transports": ["http", "stdio"] if client.http else ["stdio"],
    }
    try:
        found = current(client, scope, places)
    except ConfigError as e:
        return {**row, "state": "unreadable", "transport": None, "error": e.as_dict()}
    transport = transport_of(client, found)
    return {**row, "state": _state(client, found, transport, places, settings), "transport": transport}


def _shown_path(client: Client, scope: Scope, places: Places) -> str:
    try:
        return str(path_of(client, scope, places))
    except ConfigError:
        return file_of(client, scope).path


def _state(client: Client, found: Any, transport: Transport | None, places: Places, settings: Settings) -> State:
    """``outdated`` when connecting again would change the entry: another token, port or place of this program."""
    if found is None:
        return "not connected"
    if transport is None:
        return "outdated"
    token = _token(settings) if transport == "http" and settings.tokens_file.exists() else ""
    wanted = entry(client, transport, _endpoint(settings, places, _profile_in(found)), token)
    return "connected" if merged(client, found, wanted) == found else "outdated"


def _said(path: Path, changed: bool, backup: Path | None) -> dict[str, Any]:
    return {"path": str(path), "changed": changed, "backup": str(backup) if backup else None}


def _profile_in(found: Any) -> str:
    """The profile that an entry of ours names."""
    match = _PROFILE.search(json.dumps(found))
    return (match[1] or match[2]) if match else ""


def _profile(settings: Settings, name: str) -> str:
    """``name``, if there is such a profile.  Raises ``ProfileUnknown``, ``ProfileInvalid``."""
    if name:
        from gateway.profiles import shown

        shown.load(settings, name)
    return "" if name == "default" else name


def _endpoint(settings: Settings, places: Places, profile: str = "") -> Endpoint:
    usual = settings.home == (places.home / DEFAULT_HOME.name).absolute()
    return Endpoint(
        url=gateway_url(settings) + (f"/{profile}" if profile else ""),
        command=str(program.path()),
        args=(*Endpoint.args, "--profile", profile) if profile else Endpoint.args,
        env={} if usual else {"HM_HOME": str(settings.home)},
    )


def _token(settings: Settings) -> str:
    """Not the operator's: a program that a model talks through gets a client's rights."""
    from gateway.tokens import CLIENTS, TokenStore

    return TokenStore(settings.tokens_file).kept(CLIENTS)


def _places() -> Places:
    """The one place that looks at this process's environment: clients have their own variables."""
    return Places(home=Path.home(), cwd=Path.cwd(), environ=dict(os.environ), mac=sys.platform == "darwin")


def _scope(project: bool) -> Scope:
    return "project" if project else "user"


def _transport(text: str) -> Transport | None:
    if text and text not in ("http", "stdio"):
        raise UsageError(f"not a transport: {text!r}", remedy="http or stdio")
    return cast(Transport, text) if text else None
