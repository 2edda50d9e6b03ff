"""The hostile server in one sandbox, spoken to directly, and the same sandbox with one setting taken away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import sandbox as sandbox_module
from sandbox.engine import Engine
from sandbox.profile import Profile, container_config
from sandbox.sandbox import Exit, Sandbox
from sandbox.spec import SandboxSpec
from tests.escape.cases import CANARY
from tests.escape.harbour import LIMITS

PATIENCE_S = 30  # only a broken test waits this long
Body = dict[str, Any]
Change = Callable[[Body], None]  # alters the body of POST /containers/create


class Captive:
    """Usage: ``seen = await captive.attempt("tcp", targets="1.1.1.1|80")``: what was tried, and what stopped it."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()
        self.exits: asyncio.Queue[Exit] = asyncio.Queue()
        self.box: Sandbox | None = None

    async def attempt(self, tool: str, **arguments: Any) -> dict[str, str]:
        """What it reported; ``{"sandbox": "ENDED: <reason>"}`` when the attempt was the end of it."""
        assert self.box is not None
        request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        self.box.write(json.dumps(request, separators=(",", ":")).encode() + b"\n")
        answer = asyncio.ensure_future(self.lines.get())
        end = asyncio.ensure_future(self.exits.get())
        done, pending = await asyncio.wait((answer, end), timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        assert done, f"{tool} neither answered nor ended"
        if answer in done:
            return parsed(json.loads(answer.result())["result"]["content"][0]["text"])
        return {"sandbox": f"ENDED: {end.result().reason}"}


def parsed(text: str) -> dict[str, str]:
    return dict(line.rsplit("=", 1) for line in text.splitlines() if "=" in line)


@contextlib.asynccontextmanager
async def captured(engine: Engine, image: str, *, server: str = "hostile", **spec: Any) -> AsyncIterator[Captive]:
    captive = Captive()
    wanted = SandboxSpec(server, image, **({"limits": LIMITS} | spec))
    captive.box = await Sandbox.start(
        engine, Profile.load(), wanted, on_line=captive.lines.put_nowait, on_exit=captive.exits.put_nowait
    )
    try:
        yield captive
    finally:
        await captive.box.stop(grace_s=0.05)


@contextlib.contextmanager
def changed(change: Change) -> Iterator[None]:
    """Sandboxes started meanwhile have ``change`` applied to what the profile says."""

    def weakened(*arguments: Any, **named: Any) -> Body:
        body = container_config(*arguments, **named)
        change(body)
        return body

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox_module, "container_config", weakened)
        yield


@contextlib.contextmanager
def planted() -> Iterator[None]:
    """The canary where the host may have it: arguments and environment of a process, shared memory."""
    canary = "".join(CANARY)
    shared = Path("/dev/shm") / f"hm-escape-{os.getpid()}"
    waits = [sys.executable, "-c", "import sys; sys.stdin.read()", canary]
    shared.write_text(canary)
    try:
        with subprocess.Popen(waits, env=os.environ | {"TOKEN": canary}, stdin=subprocess.PIPE) as process:
            yield
            process.terminate()
    finally:
        shared.unlink()


@contextlib.asynccontextmanager
async def canaries(engine: Engine, image: str) -> AsyncIterator[None]:
    """The canary on the host, and in the environment of another server."""
    with planted():
        async with captured(engine, image, server="other", env={"TOKEN": "".join(CANARY)}):
            yield
