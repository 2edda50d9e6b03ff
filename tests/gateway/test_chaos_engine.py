"""What goes wrong with real sandboxes: results without measure, killed containers, an engine that goes away."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway.gateway import Gateway
from harbourmaster.compose import starter
from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.reaper import ALL, list_sandboxes, reap
from tests.fixtures.images import build_echo_image
from tests.gateway.harness import Http, World, serving, tool_call, until
from tests.gateway.live import echo_server

pytestmark = pytest.mark.engine


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = Engine.connect(settings)
    yield engine
    reap(engine, owner=ALL)
    engine.close()


class RealWorld(World):
    running = 0


@pytest.fixture
def world(engine: Engine) -> World:
    profile = Profile.load()
    world = RealWorld({"echo": echo_server("echo", build_echo_image(engine), profile)})
    world.start = starter(engine, profile, world.append)  # type: ignore[method-assign,assignment]
    return world


@pytest.fixture
async def live(settings: Settings, world: World) -> AsyncIterator[tuple[Gateway, Http]]:
    async with serving(settings, world) as pair:
        yield pair


async def called(http: Http, session: str, name: str, **arguments: Any) -> Any:
    return await http.call(session, "tools/call", tool_call(name, arguments))


def text(reply: Any) -> str:
    return str(reply["result"]["content"][0]["text"])


def code(reply: Any) -> str:
    return str(reply["error"]["data"]["code"])


async def test_a_result_of_100_megabytes_ends_its_server_and_nothing_else(live: tuple[Gateway, Http]) -> None:
    _, http = live
    one, two = await http.initialize(), await http.initialize()
    assert text(await called(http, two, "echo", text="before")) == "before"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    large, *small = await asyncio.gather(
        called(http, one, "big", n=100_000_000), *(http.call(two, "ping", None, n) for n in range(5))
    )
    assert "error" in large, "it is more than any message may hold"
    assert code(large) == "gateway.server_exited"
    assert all(reply["result"] == {} for reply in small)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak  # KiB (getrusage(2))
    assert grown < 90_000, "it was not kept in memory"
    assert text(await called(http, two, "echo", text="after")) == "after"
    assert text(await called(http, one, "echo", text="again")) == "again"


async def test_a_container_that_somebody_kills_ends_its_call_alone(live: tuple[Gateway, Http], engine: Engine) -> None:
    gateway, http = live
    one, two = await http.initialize(), await http.initialize()
    await called(http, two, "echo", text="x")
    call = asyncio.create_task(called(http, one, "sleep", ms=60_000))
    await until(lambda: any(lease.upstream.pending and lease.ready for lease in gateway.leases))
    (victim,) = (lease.upstream.sandbox_id for lease in gateway.leases if lease.upstream.pending)
    await asyncio.to_thread(engine.client.containers.get(victim).kill)
    assert code(await call) == "gateway.server_exited"
    assert text(await called(http, two, "echo", text="y")) == "y"
    await until(lambda: len(list_sandboxes(engine)) == 1)


async def test_a_spare_answers_a_new_session_at_once_and_none_is_left(
    settings: Settings, world: World, engine: Engine
) -> None:
    async with serving(settings.model_copy(update={"pool_spares": 1}), world) as (gateway, http):
        await called(http, await http.initialize(), "echo", text="x")
        await until(lambda: any(spare.ready for spare in gateway.leases.pool))
        (spare,) = (spare.upstream.sandbox_id for spare in gateway.leases.pool)
        session = await http.initialize()
        assert text(await called(http, session, "echo", text="warm")) == "warm"
        assert any(lease.upstream.sandbox_id == spare for lease in gateway.leases)
        assert gateway.leases.counters["warm_hits"] == 1
    assert list_sandboxes(engine) == []
