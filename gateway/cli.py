"""``hm gateway run``: the gateway in the foreground."""

from __future__ import annotations

import enum
import gc
import logging
import sys
from typing import Annotated

import typer

from gateway.profiles.view import DEFAULT
from harbourmaster.core import logs
from harbourmaster.core.errors import UsageError
from harbourmaster.core.running import recorded
from harbourmaster.core.settings import Settings

app = typer.Typer(no_args_is_help=True)


class Transport(enum.StrEnum):
    stdio = "stdio"
    http = "http"
    sse = "sse"


@app.callback()
def gateway() -> None:
    """Run the gateway."""


@app.command("run")
def run(
    transport: Annotated[
        Transport, typer.Option(help="stdio serves one client, http many; sse is http with /sse for old clients")
    ] = Transport.http,
    host: Annotated[str, typer.Option(help="address to listen on; default: gateway_host")] = "",
    port: Annotated[int | None, typer.Option(help="port to listen on, 0 for any; default: gateway_port")] = None,
    servers: Annotated[str, typer.Option(help="serve these alone: a,b")] = "",
    profile: Annotated[str, typer.Option(help="what a stdio client sees; over HTTP each has its path")] = "",
    dynamic: Annotated[bool, typer.Option("--dynamic", help="clients find and add servers themselves")] = False,
) -> None:
    """Serve MCP until told to stop; every sandbox ends with it."""
    import uvloop

    gc.disable()  # until it serves (gateway.serve.collect_less): a start makes much and throws away little
    overrides = {"gateway_host": host or None, "gateway_port": port}
    settings = Settings.load(**{k: v for k, v in overrides.items() if v is not None})
    logs.configure(settings.log_level)
    for chatty in ("uvicorn", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    only = tuple(name.strip() for name in servers.split(",") if name.strip())
    if profile and transport is not Transport.stdio:
        raise UsageError("--profile is for stdio", remedy=f"over HTTP the profile is at /mcp/{profile}")
    served = (
        _stdio(settings, only, profile, dynamic)
        if transport is Transport.stdio
        else _http(settings, only, dynamic, sse=transport is Transport.sse)
    )
    uvloop.run(served)


async def _http(settings: Settings, only: tuple[str, ...], dynamic: bool, *, sse: bool) -> None:
    from gateway.serve import bind, run_http
    from harbourmaster.compose import composed_gateway

    sock = bind(settings.gateway_host, settings.gateway_port)
    async with composed_gateway(settings, only, dynamic=dynamic) as gateway:
        gateway.tokens.default()
        bound = sock.getsockname()[1]
        shown = f"[{settings.gateway_host}]" if ":" in settings.gateway_host else settings.gateway_host
        sys.stderr.write(
            f"serving {len(gateway.index.servers)} servers at http://{shown}:{bound}/{'sse' if sse else 'mcp'}\n"
        )
        with recorded(settings.run_dir, settings.gateway_host, bound, only):
            await run_http(gateway, settings, sock, sse=sse)


async def _stdio(settings: Settings, only: tuple[str, ...], profile: str, dynamic: bool) -> None:
    from gateway.serve import run_stdio
    from harbourmaster.compose import composed_gateway

    async with composed_gateway(settings, only, dynamic=dynamic) as gateway:
        await run_stdio(gateway, profile or DEFAULT)
