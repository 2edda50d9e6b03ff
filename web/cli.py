"""``hm console``: the pages people look at."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from harbourmaster.core import logs
from harbourmaster.core.running import console_url
from harbourmaster.core.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The web console.")

HOST = "127.0.0.1"


@app.command("run")
def run(
    port: Annotated[int | None, typer.Option(help="port to listen on, 0 for any; default: console_port")] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = HOST,
    allow_host: Annotated[list[str] | None, typer.Option(help="a host name to answer to, beside loopback ones")] = None,
) -> None:
    """Serve the console until told to stop, and print a link that logs you in once."""
    from harbourmaster.up.console import composed_console
    from web.access import make_link_code
    from web.app import create_app
    from web.serve import listen, make_server

    settings = Settings.load()
    logs.configure(settings.log_level)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    sock = listen(host, settings.console_port if port is None else port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{sock.getsockname()[1]}"
    with composed_console(settings) as harbour:
        sys.stderr.write(f"the console is at {address}; log in once with\n")
        # A link is for the person at the terminal; a log may be read by others, and later.
        link = f"{address}/enter/{make_link_code(settings)}" if sys.stderr.isatty() else "hm console link"
        sys.stderr.write(f"  {link}\n")
        make_server(create_app(harbour, hosts=allow_host or ())).run(sockets=[sock])


@app.command("link")
def link() -> None:
    """Print a link that logs you in once; good for a quarter of an hour."""
    from web.access import make_link_code

    settings = Settings.load()
    print(f"{console_url(settings)}/enter/{make_link_code(settings)}")


@app.command("token")
def token(
    role: Annotated[str, typer.Option(help="viewer, operator or admin: a new token, shown this once")] = "",
    name: Annotated[str, typer.Option(help="whom the token is for")] = "console",
    revoke: Annotated[str, typer.Option(help="forget this token instead; its sessions end")] = "",
    ls: Annotated[bool, typer.Option("--ls", help="name the tokens instead")] = False,
) -> None:
    """Print the console's token (made on first use); or make one for somebody else, in a role."""
    from web.access import console_tokens, token_name
    from web.identity import role_of

    tokens = console_tokens(Settings.load())
    if ls:
        print("".join(f"{t.name:<24}  {role_of(t.name):<8}  {t.created}\n" for t in tokens.list()), end="")
    elif revoke:
        tokens.revoke(revoke)
        print(f"{revoke} is revoked")
    else:
        print(tokens.create(token_name(role, name)) if role else tokens.default())
