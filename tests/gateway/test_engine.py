"""The gateway over real sandboxes: the echo image, crashes of the gateway itself, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.gateway import Gateway
from harbourmaster.compose import starter
from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.reaper import ALL, list_sandboxes, reap
from tests.fixtures.images import build_echo_image
from tests.gateway.harness import Http, World, rpc, serving, tool_call, until
from tests.gateway.live import echo_server

pytestmark = pytest.mark.engine

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = Engine.connect(settings)
    yield engine
    reap(engine, owner=ALL)
    engine.close()


@pytest.fixture
def image(engine: Engine) -> str:
    return build_echo_image(engine)


class RealWorld(World):
    """Sandboxes instead of subprocesses."""

    running = 0


@pytest.fixture
def real_world(engine: Engine, image: str) -> World:
    profile = Profile.load()
    world = RealWorld({"echo": echo_server("echo", image, profile)})
    world.start = starter(engine, profile, world.append)  # type: ignore[method-assign,assignment]
    return world


@pytest.fixture
async def live(settings: Settings, real_world: World) -> AsyncIterator[tuple[Gateway, Http]]:
    async with serving(settings, real_world) as pair:
        yield pair


def text(reply: Any) -> str:
    return str(reply["result"]["content"][0]["text"])


async def test_a_tool_is_called_in_a_sandbox_that_ends_with_its_session(
    live: tuple[Gateway, Http], engine: Engine, real_world: World
) -> None:
    _, http = live
    session = await http.initialize()
    assert list_sandboxes(engine) == []
    assert text(await http.call(session, "tools/call", tool_call("echo", {"text": "ahoy"}))) == "ahoy"
    (container,) = list_sandboxes(engine)
    assert container["Labels"]["harbourmaster.server"] == "echo"
    await http.request("DELETE", Mcp_Session_Id=session)
    await until(lambda: list_sandboxes(engine) == [])

    def events() -> list[tuple[str, str]]:
        return [(r["event"], r["server"]) for r in real_world.records if r["kind"] == "sandbox"]

    await until(lambda: len(events()) == 2)
    assert events() == [("start", "echo"), ("stop", "echo")]


async def test_modern_and_handshake_clients_call_the_same_server(live: tuple[Gateway, Http]) -> None:
    _, http = live
    reply = await http.modern("tools/call", tool_call("echo", {"text": "modern"}))
    assert text(reply.json) == "modern"
    session = await http.initialize()
    assert text(await http.call(session, "tools/call", tool_call("echo", {"text": "handshake"}))) == "handshake"


async def test_a_server_that_crashes_is_replaced(live: tuple[Gateway, Http], engine: Engine) -> None:
    _, http = live
    session = await http.initialize()
    reply = await http.call(session, "tools/call", tool_call("crash"))
    assert reply["error"]["data"]["code"] == "gateway.server_exited"
    assert text(await http.call(session, "tools/call", tool_call("echo", {"text": "again"}))) == "again"
    await until(lambda: len(list_sandboxes(engine)) == 1)


async def test_a_profile_other_than_the_lock_s_starts_nothing(
    settings: Settings, real_world: World, engine: Engine
) -> None:
    import dataclasses

    real_world.servers = {"echo": dataclasses.replace(real_world.servers["echo"], profile="sha256:" + "0" * 64)}
    async with serving(settings, real_world) as (_, http):
        reply = await http.call(await http.initialize(), "tools/call", tool_call("echo", {"text": "x"}))
        assert reply["error"]["data"]["code"] == "gateway.server_changed"
        assert list_sandboxes(engine) == []


class Program:
    """`tests.gateway.live` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, http: Http) -> None:
        self.process = process
        self.http = http


@contextlib.asynccontextmanager
async def program(image: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.gateway.live", image, "0", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        url, token = (await process.stdout.readline()).decode().split()
        yield Program(process, Http(int(url.split(":")[2].split("/")[0]), token))
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


async def test_after_kill_9_the_next_start_leaves_no_sandbox_of_the_old(engine: Engine, image: str) -> None:
    async with program(image) as first:
        for _ in range(3):
            session = await first.http.initialize()
            await first.http.call(session, "tools/call", tool_call("echo", {"text": "x"}))
        assert len(list_sandboxes(engine)) == 3
        first.process.kill()
        await first.process.wait()
    assert len(list_sandboxes(engine)) == 3, "nobody was left to remove them"
    async with program(image) as second:
        assert list_sandboxes(engine) == []
        session = await second.http.initialize()
        assert text(await second.http.call(session, "tools/call", tool_call("echo", {"text": "y"}))) == "y"
    assert list_sandboxes(engine) == [], "SIGTERM leaves none either"
    assert second.process.returncode == 0


@pytest.mark.slow
async def test_300_connections_and_disconnections_leak_nothing(engine: Engine, image: str) -> None:
    async with program(image) as gateway:
        await asyncio.gather(*(cycle(gateway.http, 0, called=True) for _ in range(20)))  # fills the engine's pool
        await until(lambda: list_sandboxes(engine) == [])
        before = census(gateway.process.pid)
        writers = children(gateway.process.pid)
        for number in range(300):
            await cycle(gateway.http, number, called=number % 10 == 0)
        await until(lambda: list_sandboxes(engine) == [])
        await until(lambda: census(gateway.process.pid) <= before + 5, f"about {before} descriptors again")
        assert children(gateway.process.pid) == writers == 1, "the audit's"
        health = await gateway.http.request("GET", "/healthz")
        assert health.status == 200


async def cycle(http: Http, number: int, *, called: bool) -> None:
    """Connect, perhaps call, and leave: politely, by dropping a stream, or in the middle of a call."""
    session = await http.initialize()
    if called:
        assert text(await http.call(session, "tools/call", tool_call("echo", {"text": "x"}))) == "x"
    if number % 3 == 0:
        async with http.events("GET", Mcp_Session_Id=session):
            await asyncio.sleep(0)
    if number % 30 == 10:
        async with http.events("POST", rpc("tools/call", tool_call("sleep", {"ms": 50})), Mcp_Session_Id=session):
            await asyncio.sleep(0)
    await http.request("DELETE", Mcp_Session_Id=session)


def census(pid: int) -> int:
    """Open file descriptors, sockets among them; a leak per connection would show as 300."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid: int) -> int:
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
