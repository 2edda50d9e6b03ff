"""A real engine, images made on the spot, and the rule that no test leaves a container behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.reaper import ALL, list_sandboxes, reap
from sandbox.sandbox import Exit, Sandbox
from sandbox.spec import SandboxSpec
from tests.fixtures.images import build_echo_image, build_probe_image, remove_loaded

PATIENCE_S = 60  # only a broken test waits this long


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine.connect(Settings.load(home=tmp_path_factory.mktemp("harbour")))
    yield engine
    if "PYTEST_XDIST_WORKER" not in os.environ:  # other workers may still use them
        remove_loaded(engine, "hm-test-probe")  # the echo image stays: other packages' tests share it
        remove_loaded(engine, "hm-test-relay")
        remove_loaded(engine, "hm-test-client")
    engine.close()


@pytest.fixture(scope="session")
def profile() -> Profile:
    return Profile.load()


@pytest.fixture(scope="session")
def echo_image(engine: Engine) -> str:
    return build_echo_image(engine)


@pytest.fixture(scope="session")
def probe_image(engine: Engine) -> str:
    return build_probe_image(engine)


@pytest.fixture
def nothing_left(engine: Engine) -> Iterator[None]:
    yield
    left = [c["Names"] for c in list_sandboxes(engine)]
    reap(engine, owner=ALL)
    assert left == []


@dataclass
class Run:
    """A sandbox with what it said: ``lines`` in order, ``exit`` when it has ended."""

    lines: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    exits: list[Exit] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    box: Sandbox | None = None

    def on_exit(self, exit_: Exit) -> None:
        self.exits.append(exit_)
        self.ended.set()

    async def line(self) -> bytes:
        return await asyncio.wait_for(self.lines.get(), PATIENCE_S)

    async def end(self) -> Exit:
        await asyncio.wait_for(self.ended.wait(), PATIENCE_S)
        return self.exits[0]

    def all_lines(self) -> list[bytes]:
        return [self.lines.get_nowait() for _ in range(self.lines.qsize())]


Start = Callable[..., Awaitable[Run]]


@pytest.fixture
async def start(engine: Engine, profile: Profile, nothing_left: None) -> Any:
    """``await start(image, *command, **spec)``; what still runs at the end of the test is stopped."""
    runs: list[Run] = []

    async def start_(image: str, *command: str, **more: Any) -> Run:
        run = Run()
        runs.append(run)
        spec = SandboxSpec(server=more.pop("server", "probe"), image_id=image, command=command, **more)
        run.box = await Sandbox.start(engine, profile, spec, on_line=run.lines.put_nowait, on_exit=run.on_exit)
        return run

    yield start_
    for run in runs:
        if run.box is not None:
            await run.box.stop(grace_s=0.1)


@pytest.fixture
def probe(start: Start, probe_image: str) -> Callable[..., Awaitable[dict[str, int]]]:
    """``await probe("calls")``: the probe's ``what=number`` lines."""

    async def probe_(*command: str, image: str = probe_image, **more: Any) -> dict[str, int]:
        run = await start(image, *command, **more)
        assert (await run.end()).status == 0
        pairs = (line.decode().partition("=") for line in run.all_lines())
        return {name: int(number) for name, _, number in pairs}

    return probe_


@pytest.fixture(scope="session")
def project_root() -> Path:
    return Path(__file__).resolve().parents[2]
