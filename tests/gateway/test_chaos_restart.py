"""The engine is restarted while clients call: every call ends, and when the engine is back so are the calls.

The engine is one of this test's own, on its own socket and in its own folders; no other is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from tests.fixtures.images import build_keeper_image
from tests.gateway.chaos_clients import PATIENCE_S, Client, Load, crowd
from tests.gateway.chaos_program import all_gone, eventually, program

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.timeout(int(2 * PATIENCE_S)),
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("dockerd"), reason="needs dockerd, and root to run it"),
]


CLIENTS = 36  # of both eras
SERVERS: dict[str, dict[str, Any]] = {"one": {}, "two": {}, "shared": {"stateless": True}}
WANTED = [*SERVERS] * (CLIENTS // len(SERVERS))  # the server of each client
LIMITS = {"call_timeout_s": PATIENCE_S, "start_timeout_s": 20.0, "sandbox_idle_s": 2.0}
SLEEP_MS = 3_600_000


class Daemon:
    """A Docker engine without networks, in ``place``."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.url = f"unix://{place}/s"
        self._process: subprocess.Popen[bytes] | None = None
        self._answered = False

    def start(self) -> None:
        folders = [
            "--data-root",
            f"{self.place}/data",
            "--exec-root",
            f"{self.place}/exec",
            "--pidfile",
            f"{self.place}/pid",
        ]
        network = ["--bridge=none", "--iptables=false", "--ip-forward=false"]
        with (self.place / "log").open("ab") as log:
            self._process = subprocess.Popen(
                # In a network name space of its own: with --bridge=none a dockerd removes docker0, whosever that is
                ["unshare", "--net", "dockerd", "--host", self.url, *folders, *network],
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S / 2)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S / 2)

    def end_shims(self) -> None:
        """Of containers that an engine which was killed had begun to make: it does not know them when it is back."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{self.place}/".encode() in (folder / "cmdline").read_bytes():
                    children = (folder / "task" / folder.name / "children").read_text().split()
                    for pid in (folder.name, *children):
                        os.kill(int(pid), signal.SIGKILL)

    def engine(self, settings: Settings) -> Engine:
        """Waits until it answers."""
        for _ in range(int(PATIENCE_S / 2)):
            with contextlib.suppress(HarbourError):
                engine = Engine.connect(settings.model_copy(update={"engine_url": self.url}))
                self._answered = True
                return engine
            time.sleep(0.5)
            if self._process is not None and self._process.poll() is not None:
                self.start()  # on a busy machine its containerd is too slow for it
        why = (self.place / "log").read_text()[-500:]
        assert not self._answered, f"dockerd does not start again: {why}"
        pytest.skip(f"a second dockerd does not start here: {why}")


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("d"))
    daemon.start()
    yield daemon
    daemon.stop()
    daemon.end_shims()
    for mount in sorted(Path("/proc/mounts").read_text().split("\n"), reverse=True):
        where = mount.split(" ")[1] if " " in mount else ""
        if where.startswith(str(daemon.place)):
            subprocess.run(["umount", "-l", where], check=False)


@pytest.fixture
def engine(settings: Settings, daemon: Daemon) -> Iterator[Engine]:
    engine = daemon.engine(settings)
    yield engine
    engine.close()


@pytest.mark.parametrize("end", [Daemon.stop, Daemon.kill])
async def test_an_engine_restarted_under_load_fails_calls_clearly_and_leaves_nothing(
    settings: Settings, daemon: Daemon, engine: Engine, end: Callable[[Daemon], None]
) -> None:
    image = await asyncio.to_thread(build_keeper_image, engine)
    async with program(image, SERVERS, engine_url=daemon.url, **LIMITS) as gateway:
        async with crowd(gateway.http, WANTED) as first:  # fills the gateway's connections to the engine
            await asyncio.gather(*(each.call("echo", text="x") for each in first))
        await eventually(lambda: all_gone(engine))
        before = await gateway.held()
        calling = Calling()
        async with (
            crowd(gateway.http, WANTED) as clients,
            Load(clients, calling) as load,
        ):
            await load.until(lambda: load.good == load.everybody, "an answer for everybody")
            calling.all_there.set()
            await eventually(lambda: gateway.has_in_flight(CLIENTS // 2))
            load.bad.clear()
            await asyncio.to_thread(end, daemon)
            await load.until(lambda: load.bad == load.everybody, "an error for everybody")
            await asyncio.to_thread(daemon.start)
            (await asyncio.to_thread(daemon.engine, settings)).close()
            load.good.clear()
            await load.until(lambda: load.good == load.everybody, "an answer for everybody again")
        assert load.codes["internal"] == 0, load.codes
        await eventually(lambda: all_gone(engine))
        await gateway.holds_no_more_than(before)


class Calling:
    """Everybody calls without end; when all have their sandboxes, every second one a tool that takes longer than any test."""

    def __init__(self) -> None:
        self.all_there = asyncio.Event()

    async def __call__(self, one: Client, load: Load) -> None:
        await self._say(one, load, "0")
        if one.number % 4 < 2:  # of both eras, and of each server
            await self.all_there.wait()
            ending = await one.call("sleep", ms=SLEEP_MS)
            assert ending.code, "a call that was in flight when the engine went was answered"
            load.note(one, ending)
        turn = 0
        while not load.over.is_set():
            turn += 1
            await self._say(one, load, str(turn))

    async def _say(self, one: Client, load: Load, turn: str) -> None:
        words = f"{one.number}-{turn}"
        ending = await one.call("echo", text=words)
        assert ending.code or ending.text == words
        load.note(one, ending)
        await asyncio.sleep(0.2 if ending.code else 0.05)
