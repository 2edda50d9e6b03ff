"""A gateway over real sandboxes as a program of its own, which tells what it holds: for many clients at once.

``python -m tests.gateway.chaos_program IMAGE_ID '{"NAME": RUN, ...}'`` serves the keeper image (tests/fixtures/keeper) under
those names until told to stop; it prints its address and token, and at SIGUSR1 how many tasks its event loop has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from gateway.gateway import Gateway
from gateway.lock import LockedServer
from gateway.serve import bind, run_http
from gateway.tokens import TokenStore
from harbourmaster.compose import reaped, starter
from harbourmaster.core.audit_process import AuditProcess
from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.reaper import list_sandboxes
from tests.gateway.chaos_clients import PATIENCE_S
from tests.gateway.harness import Admitted, Http, locked
from tests.gateway.live import ECHO_LISTING

ROOT = Path(__file__).resolve().parents[2]
_TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
_KEEP = {"name": "keep", "description": "Return the first text that this was ever told", "inputSchema": _TEXT}
LISTING = ECHO_LISTING | {"tools": [*ECHO_LISTING["tools"], _KEEP]}


def keeper(name: str, image_id: str, profile: Profile, run: dict[str, Any]) -> LockedServer:
    return locked(name, LISTING, image_id=image_id, profile=profile.digest, run=run)


async def serve(image_id: str, runs: dict[str, dict[str, Any]]) -> None:
    settings = Settings.load()
    sock = bind("127.0.0.1", 0)
    audit = AuditProcess(settings.audit_dir)
    engine = await asyncio.to_thread(Engine.connect, settings)
    await reaped(engine, audit)
    profile = Profile.load()
    servers = {name: keeper(name, image_id, profile, run) for name, run in runs.items()}
    gateway = Gateway(
        settings,
        servers,
        admit=lambda name: Admitted(servers[name].image, image_id),
        start=starter(engine, profile, audit.append),
        append=audit.append,
        tokens=TokenStore(settings.tokens_file),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _tell)
    async with gateway:
        print(f"http://127.0.0.1:{sock.getsockname()[1]}/mcp", gateway.tokens.default(), flush=True)
        await run_http(gateway, settings, sock)
    await asyncio.to_thread(engine.close)
    await asyncio.to_thread(audit.close)


def _tell() -> None:
    print(len(asyncio.all_tasks()), flush=True)


class Held(NamedTuple):
    """What the program holds; ``files``: open descriptors, sockets among them."""

    files: int
    tasks: int
    children: int

    def within(self, other: Held, spare: int) -> bool:
        return self.files <= other.files + spare and self.tasks <= other.tasks and self.children <= other.children


class Program:
    def __init__(self, process: asyncio.subprocess.Process, http: Http) -> None:
        self.process = process
        self.http = http

    async def held(self) -> Held:
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGUSR1)
        tasks = int(await self.process.stdout.readline())
        return Held(self.files, tasks, self._children())

    @property
    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def _children(self) -> int:
        return len(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())

    async def holds_no_more_than(self, before: Held, spare: int = 5) -> None:
        """Waits for it.  ``spare`` descriptors are nobody's: idle connections to the engine, a file being written."""
        held = before

        async def released() -> bool:
            nonlocal held
            held = await self.held()
            return held.within(before, spare)

        try:
            await eventually(released)
        except TimeoutError:
            raise AssertionError(f"{held} is left, and was {before}") from None

    async def has_in_flight(self, calls: int) -> bool:
        return calls <= sum(each["calls"] for each in (await self.status())["sessions"])

    async def status(self) -> Any:
        response = await self.http.request("GET", "/admin/status")
        assert response.status == 200, response
        return response.json


@contextlib.asynccontextmanager
async def program(image_id: str, runs: dict[str, dict[str, Any]], **changes: object) -> AsyncIterator[Program]:
    """``changes``: settings.  It is told to stop at the end, and must end well."""
    environment = {**os.environ, **{f"HM_{name.upper()}": str(value) for name, value in changes.items()}}
    command = [sys.executable, "-m", "tests.gateway.chaos_program", image_id, json.dumps(runs)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        url, token = (await process.stdout.readline()).decode().split()
        yield Program(process, Http(int(url.split(":")[2].split("/")[0]), token))
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that takes as long as the machine takes."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110  other processes set no event
            await asyncio.sleep(0.1)


async def all_gone(engine: Engine) -> bool:
    return not await asyncio.to_thread(list_sandboxes, engine)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], json.loads(sys.argv[2])))
