"""The runner as a process: uvicorn around the application."""

from __future__ import annotations

import asyncio
import secrets
import sys
from pathlib import Path

import uvicorn
import uvloop

from harbourmaster.core.files import SECRET_MODE, make_private_dir, write_atomic
from harbourmaster.core.settings import RUNNER_PORT, Settings
from runner.api.app import LOOPBACK, create_app
from runner.api.responses.servers import ToolServers
from runner.service import Runner

SHUTDOWN_S = 5  # for requests in flight when asked to stop


def serve(
    settings: Settings, *, host: str = "127.0.0.1", port: int = RUNNER_PORT, preload: tuple[str, ...] = ()
) -> None:
    """Run until SIGINT or SIGTERM."""
    runner = Runner.open(settings)
    open_to_all = host in LOOPBACK  # all on this machine, that is; other addresses want a token
    if not open_to_all:
        sys.stderr.write(f"requests need the token in {token_file(settings)}\n")
    config = uvicorn.Config(
        create_app(
            runner,
            allowed_hosts=() if open_to_all else ("*",),
            token="" if open_to_all else token(settings),
            tool_servers=ToolServers.of(settings),
        ),
        host=host,
        port=port,
        log_level=settings.log_level,
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        server_header=False,
    )
    uvloop.run(_serve(uvicorn.Server(config), runner, preload))


def token_file(settings: Settings) -> Path:
    return settings.home / "secrets" / "runner-token"


def token(settings: Settings) -> str:
    """Made on first use, readable by its owner only."""
    path = token_file(settings)
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        make_private_dir(path.parent)
        new = secrets.token_urlsafe(32)
        write_atomic(path, new.encode(), mode=SECRET_MODE)
        return new


async def _serve(server: uvicorn.Server, runner: Runner, preload: tuple[str, ...]) -> None:
    warming = [asyncio.create_task(_preload(runner, name)) for name in preload]
    try:
        await server.serve()
    finally:
        for task in warming:
            task.cancel()
        await runner.scheduler.close()


async def _preload(runner: Runner, name: str) -> None:
    async with runner.scheduler.use(runner.plan(name)):
        pass
