"""A real model, a real engine, a real server.  Without the compiled engine the tests that need it are skipped."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from harbourmaster.core.digests import sha256_of_file
from runner import install
from runner.configuration import Configurations
from runner.store import starter
from runner.store.package import Parts, package
from runner.store.store import ModelStore

CACHE = Path(os.environ.get("HM_TEST_CACHE") or "~/.cache/harbourmaster/models").expanduser()


@pytest.fixture(scope="session")
def engine_installed() -> None:
    if not importlib.util.find_spec("llama_cpp"):
        pytest.skip("llama-cpp-python is not installed (./hm model install)")


@pytest.fixture(scope="session")
def exact(engine_installed: None) -> bool:
    """Does this engine give a token the same numbers whatever is computed beside it (docs/models.md, "How exact")?"""
    from tests.runner.ggmlcalls import Ggml, libraries

    return install.has_kernels() and bool(Ggml(libraries())("ggml_cpu_has_avx512_vnni"))


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct as a GGUF file, fetched once into the user's cache."""
    cached = CACHE / Path(starter.SMOLLM2.members[0]).name
    if not cached.is_file() or sha256_of_file(cached) != starter.SMOLLM2.digest:
        try:
            weights, _ = starter.fetch(starter.SMOLLM2, tmp_path_factory.mktemp("starter"))
        except starter.StarterUnavailable as e:
            pytest.skip(e.message)
        CACHE.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, cached)
    return cached


@pytest.fixture(scope="session")
def model_home(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An HM_HOME whose model store holds ai/smollm2."""
    home = tmp_path_factory.mktemp("models-home")
    store = ModelStore(home / "models")
    model = package(store, Parts((smollm2,), created=starter.SMOLLM2.created), "ai/smollm2")
    # One thread: on a busy machine two would spend their time waiting for each other at every layer.
    Configurations(home / "models" / "configurations.json").change(model, {"threads": 1})
    return home


@dataclass(frozen=True)
class Server:
    url: str
    home: Path
    process: subprocess.Popen[bytes]

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=60)

    def post(self, path: str, body: object, **options: object) -> httpx2.Response:
        return httpx2.post(self.url + path, json=body, timeout=120, **options)  # type: ignore[arg-type]

    def raw(self, path: str, data: bytes) -> httpx2.Response:
        return httpx2.post(self.url + path, content=data, timeout=120)

    def delete(self, path: str) -> httpx2.Response:
        return httpx2.delete(self.url + path, timeout=60)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def quiet_port() -> int:
    """One that no outgoing connection takes meanwhile (Linux picks those from 32768 up): for listening later."""
    for port in random.sample(range(20_000, 30_000), 200):
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


@pytest.fixture(scope="session")
def server(engine_installed: None, model_home: Path) -> Iterator[Server]:
    """`hm model serve` on a free port of loopback."""
    with serve(model_home) as started:
        yield started


@contextlib.contextmanager
def serve(home: Path, **environment: str) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "harbourmaster", "model", "serve", "--port", str(port)]
    process = subprocess.Popen(
        command, env={**os.environ, "HM_HOME": str(home), "HM_LOG_LEVEL": "warning", **environment}
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(url, process)
        yield Server(url, home, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the server ended with status {process.returncode}")
        try:
            httpx2.get(f"{url}/v1/models", timeout=5)
            return
        except httpx2.TransportError:
            time.sleep(0.1)
    pytest.fail("the server did not come up within 30 s")


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as a GGUF file, fetched and converted once into the user's cache."""
    cached = CACHE / "all-minilm.gguf"
    if not cached.is_file():
        try:
            weights, _ = starter.fetch(starter.MINILM, tmp_path_factory.mktemp("starter"))
        except starter.StarterUnavailable as e:
            pytest.skip(e.message)
        CACHE.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, cached)
    return cached
