"""The runner as a process: uvicorn around the application."""

from __future__ import annotations

import asyncio

import uvicorn

from harbourmaster.core.settings import RUNNER_PORT, Settings
from runner.api.app import create_app
from runner.service import Runner

SHUTDOWN_S = 5  # for requests in flight when asked to stop


def serve(
    settings: Settings, *, host: str = "127.0.0.1", port: int = RUNNER_PORT, preload: tuple[str, ...] = ()
) -> None:
    """Run until SIGINT or SIGTERM."""
    runner = Runner.open(settings)
    config = uvicorn.Config(
        create_app(runner, allowed_hosts=() if host in ("127.0.0.1", "localhost", "::1") else (host,)),
        host=host,
        port=port,
        log_level=settings.log_level,
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        server_header=False,
    )
    asyncio.run(_serve(uvicorn.Server(config), runner, preload))


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
