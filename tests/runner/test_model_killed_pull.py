"""A round trip through Debian's docker-registry whose pull is killed half way, twice."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.store import transfer
from runner.store.package import Parts, package
from runner.store.store import ModelStore
from tests.runner.gguffile import GgufFile
from tests.runner.test_model_transfer import registry

__all__ = ["registry"]  # a fixture

SIZE = 24 << 20


class Valve:
    """Passes TCP on to the registry; what comes back stops after ``budget`` bytes until there is more of it."""

    def __init__(self, target: str) -> None:
        host, _, port = target.partition(":")
        self._target = (host, int(port))
        self._more = threading.Condition()
        self._budget = 1 << 40
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def allow(self, budget: int) -> None:
        with self._more:
            self._budget = budget
            self._more.notify_all()

    def close(self) -> None:
        with self._more:
            self._closed = True
            self._more.notify_all()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, limited: bool) -> None:
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65536):
                if limited and not self._spend(len(data)):
                    return
                target.sendall(data)

    def _spend(self, count: int) -> bool:
        with self._more:
            while self._budget < count and not self._closed:
                self._more.wait()
            self._budget -= count
            return not self._closed


@pytest.fixture
def valve(registry: str) -> Iterator[Valve]:
    valve = Valve(registry)
    yield valve
    valve.close()


def test_a_pull_that_is_killed_twice_goes_on_and_gives_the_same_model(
    registry: str, valve: Valve, tmp_path: Path, home: Path
) -> None:
    file = GgufFile()
    file.data += os.urandom(SIZE)
    source = ModelStore(tmp_path / "there")
    made = package(source, Parts((file.write(tmp_path / "m.gguf"),)), f"{registry}/me/big:v1")
    transfer.push(source, f"{registry}/me/big:v1")
    name = f"{valve.address}/me/big:v1"
    sizes = [killed(valve, home, name, at=SIZE // 3), killed(valve, home, name, at=2 * SIZE // 3)]
    assert SIZE // 3 <= sizes[0] < sizes[1] < SIZE
    valve.allow(1 << 40)
    seen: list[int] = []
    store = ModelStore(home / "models")
    assert store.all() == []
    pulled = transfer.pull(store, name, lambda _digest, current, _total: seen.append(current))
    assert pulled.id == made.id
    assert min(c for c in seen if c > 1 << 20) > sizes[1], "what was there is not fetched again"
    assert store.weights(pulled)[0].read_bytes() == source.weights(made)[0].read_bytes()
    assert list((home / "models" / "partial").iterdir()) == []
    if shutil.which("skopeo"):
        command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry}/me/big:v1"]
        raw = subprocess.run(command, capture_output=True, check=True).stdout
        assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == made.id


def killed(valve: Valve, home: Path, name: str, *, at: int) -> int:
    """Pull, stop the flow once the partial file has ``at`` bytes, kill the process; the bytes that are left."""
    partial = home / "models" / "partial"
    left = sum(p.stat().st_size for p in partial.iterdir()) if partial.exists() else 0
    valve.allow(at - left + (1 << 20))
    command = [sys.executable, "-m", "harbourmaster", "model", "pull", name]
    process = subprocess.Popen(command, env={**os.environ, "HM_HOME": str(home)}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        size = max((p.stat().st_size for p in partial.iterdir()), default=0) if partial.exists() else 0
        if size >= at:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was not half way when it should have been"
    return max(p.stat().st_size for p in partial.iterdir())
