"""``hm server add|login|logout``: servers that run elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from typing import Annotated, Any

import typer

from gateway.cli_output import visible
from harbourmaster.core.errors import UsageError
from harbourmaster.core.settings import Settings

Name = Annotated[str, typer.Argument(metavar="NAME", help="what it is called here")]
Headless = Annotated[bool, typer.Option("--no-browser", help="print the address, and paste the one you end at")]
Port = Annotated[
    int, typer.Option(help="where the login comes back to, for clients registered with one port", min=0, max=65535)
]
Scopes = Annotated[list[str] | None, typer.Option("--scope", help="ask for this too; may be repeated")]


def add(
    name: Name,
    url: Annotated[str, typer.Argument(help="its address; left out where the catalog has an entry")] = "",
    transport: Annotated[str, typer.Option(help="streamable-http or sse")] = "streamable-http",
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header", help="'Authorization: Bearer ${TOKEN}'; ${TOKEN} is the secret `token`, set with hm secret set"
        ),
    ] = None,
    private: Annotated[
        list[str] | None,
        typer.Option(
            "--private", help="host:port that may be on a private network: its own, or its authorization server's"
        ),
    ] = None,
    client_id: Annotated[str, typer.Option(help="of an OAuth client that you registered there")] = "",
    scope: Scopes = None,
    no_browser: Headless = False,
    port: Port = 0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="agree to what is shown")] = False,
) -> None:
    """Connect to a server that runs elsewhere, log in where it asks for it, and lock what it offers."""
    from harbourmaster.up import remote
    from registry.places import find_entry

    settings = Settings.load()
    if url:
        body = _body(url, transport, header or [], client_id, scope or [])
        body["remote"]["private"] = list(dict.fromkeys([*remote.private_hosts(url), *(private or [])]))
        entry = remote.draft(settings, name, body)
    else:
        entry = find_entry(settings, name)
    remote.add(settings, entry, _say, _login(remote, no_browser, port, ()), yes=yes)


def login(name: Name, scope: Scopes = None, no_browser: Headless = False, port: Port = 0) -> None:
    """Log in to a remote server; the token is kept encrypted and goes to that server alone."""
    from harbourmaster.up import remote

    grant = remote.login_now(Settings.load(), name, _login(remote, no_browser, port, tuple(scope or ())))
    granted = f"; granted: {visible(' '.join(grant.scopes))}" if grant.scopes else ""
    _say(f"logged in to {name} at {visible(grant.client.issuer)}{granted}")


def logout(name: Name) -> None:
    """Forget the token of a remote server, and revoke it where its authorization server can."""
    from harbourmaster.up import remote

    _say(remote.logout(Settings.load(), name))


def _body(url: str, transport: str, headers: list[str], client_id: str, scopes: list[str]) -> dict[str, Any]:
    """The entry's parts that follow from the options; each variable in a header is a secret of its name."""
    from gateway.remote.spec import variables

    found: dict[str, str] = {}
    for text in headers:
        name, colon, value = text.partition(":")
        if not colon or not name.strip() or not value.strip():
            raise UsageError(f"--header {name!r} has no value", remedy="write it as 'Name: value ${SECRET}'")
        found[name.strip()] = value.strip()
    body: dict[str, Any] = {"remote": {"url": url, "transport": transport, "headers": found}}
    if client_id or scopes:
        body["remote"]["oauth"] = {"scopes": scopes, **({"client_id": client_id} if client_id else {})}
    wanted = sorted(variables(found))
    if wanted:
        declared = [{"name": v.lower().replace("_", "-"), "env": v, "description": f"fills ${{{v}}}"} for v in wanted]
        body["config"] = {"secrets": declared}
    return body


def _login(remote: Any, no_browser: bool, port: int, scopes: tuple[str, ...]) -> Any:
    paste = (
        _paste if no_browser or (_headless() and not port) else None
    )  # a port may be forwarded to where the browser is
    return remote.Login(_show, paste, port=port, scopes=scopes)


def _headless() -> bool:
    """On Linux, no display means no browser of this person's."""
    return sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _show(url: str) -> None:
    sys.stderr.write(f"log in here, in a browser on this machine:\n\n  {visible(url)}\n\n")
    sys.stderr.flush()
    webbrowser.open(url)


async def _paste(url: str) -> str:
    sys.stderr.write(f"log in here, in any browser:\n\n  {visible(url)}\n\n")
    sys.stderr.write("it ends at an address that does not open (127.0.0.1); paste that address here: ")
    sys.stderr.flush()
    return await asyncio.to_thread(sys.stdin.readline)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
