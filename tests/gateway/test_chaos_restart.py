"""The engine is restarted while clients call: every call ends, and when the engine is back so are the calls.

The engine is one of this test's own, on its own socket and in its own folders; no other is touched.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.transport.unixconn import UnixHTTPConnection

from harbourmaster.compose import starter
from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.reaper import list_sandboxes
from tests.fixtures.images import build_echo_image
from tests.gateway.harness import Http, World, serving, tool_call, until
from tests.gateway.live import echo_server

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("dockerd"), reason="needs dockerd, and root to run it"),
]


class Daemon:
    """A Docker engine without networks, in ``place``."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.url = f"unix://{place}/s"
        self._process: subprocess.Popen[bytes] | None = None

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
            self._process.wait(60)

    def engine(self, settings: Settings) -> Engine:
        """Waits until it answers."""
        for _ in range(200):
            try:
                return Engine.connect(settings.model_copy(update={"engine_url": self.url}))
            except Exception:
                time.sleep(0.1)
        pytest.skip(f"a second dockerd does not start here: {(self.place / 'log').read_text()[-500:]}")


def connect(self: UnixHTTPConnection) -> None:
    """As the SDK's, which leaves the socket of a refused connection to the garbage collector."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(self.timeout)
    try:
        sock.connect(self.unix_socket)
    except BaseException:
        sock.close()
        raise
    self.sock = sock


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    monkeypatch.setattr(UnixHTTPConnection, "connect", connect)
    daemon = Daemon(tmp_path_factory.mktemp("d"))
    daemon.start()
    yield daemon
    daemon.stop()
    for mount in sorted(Path("/proc/mounts").read_text().split("\n"), reverse=True):
        where = mount.split(" ")[1] if " " in mount else ""
        if where.startswith(str(daemon.place)):
            subprocess.run(["umount", "-l", where], check=False)


async def test_an_engine_restarted_under_load_fails_calls_clearly_and_leaves_nothing(
    settings: Settings, daemon: Daemon
) -> None:
    engine = await asyncio.to_thread(daemon.engine, settings)
    profile = Profile.load()
    world = World({"echo": echo_server("echo", await asyncio.to_thread(build_echo_image, engine), profile)})
    world.start = starter(engine, profile, world.append)  # type: ignore[method-assign,assignment]
    outcomes: Counter[str] = Counter()
    over = asyncio.Event()
    async with serving(settings.model_copy(update={"start_timeout_s": 5.0, "call_timeout_s": 5.0}), world) as (_, http):
        clients = [asyncio.create_task(calling(http, outcomes, over)) for _ in range(4)]
        await until(lambda: outcomes["ok"] > 20)
        await asyncio.to_thread(daemon.stop)
        await until(lambda: outcomes.total() > outcomes["ok"], "a call that failed")
        await asyncio.to_thread(daemon.start)
        (await asyncio.to_thread(daemon.engine, settings)).close()
        good = outcomes["ok"]
        await until(lambda: outcomes["ok"] > good + 20, "calls that succeed again")
        over.set()
        await asyncio.gather(*clients)
    assert "internal" not in outcomes, outcomes
    assert await asyncio.to_thread(list_sandboxes, engine) == []
    engine.close()


async def calling(http: Http, outcomes: Counter[str], over: asyncio.Event) -> None:
    """One client that never gives up; each of its calls is counted once, by how it ended."""
    session = await http.initialize()
    while not over.is_set():
        reply: Any = await http.call(session, "tools/call", tool_call("echo", {"text": "x"}))
        if "error" in reply:
            outcomes[reply["error"]["data"]["code"]] += 1
            await asyncio.sleep(0.05)
        else:
            assert reply["result"]["content"][0]["text"] == "x"
            outcomes["ok"] += 1
