"""Other people's MCP clients, installed once from npm into a cache outside the repository.

The gateway they meet is this installation's own, over the real time server in its sandbox.  ``HM_TEST_HOME`` may name an
HM_HOME where that server is built already; else it is built once, into the same cache.
"""

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from gateway.lock import read_lock
from gateway.tokens import TokenStore
from harbourmaster.core.errors import EngineError
from harbourmaster.core.settings import Settings
from harbourmaster.up.servers import prepare
from sandbox.engine import Engine
from sandbox.owner import LABEL_HOME, LABEL_OWNER, LABEL_SANDBOX
from tests.fixtures.npm import CPU, cache_dir, installed, node_in

HERE = Path(__file__).parent
STARTED = re.compile(rb"http://127\.0\.0\.1:(\d+)/mcp")
HM = [sys.executable, "-m", "harbourmaster"]


@dataclass(frozen=True)
class Clients:
    modules: Path

    @property
    def node(self) -> Path:
        return node_in(self.modules)

    @property
    def inspector(self) -> list[str]:
        launcher = self.modules / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build" / "index.js"
        return [str(self.node), str(launcher), "--cli"]

    @property
    def claude(self) -> list[str]:
        return [str(self.modules / "@anthropic-ai" / f"claude-code-linux-{CPU}" / "claude")]


@pytest.fixture(scope="session")
def clients() -> Clients:
    return Clients(installed("clients", HERE))


@pytest.fixture
def bare_env(tmp_path) -> dict[str, str]:
    """A person's environment with an empty home, and every client told to stay off the network."""
    home = tmp_path / "home"
    home.mkdir()
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "TMPDIR": str(tmp_path),
        # code.claude.com/docs/en/settings, "Environment variables"
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DO_NOT_TRACK": "1",
        "NO_UPDATE_NOTIFIER": "1",
        "MCP_INSPECTOR_SECRET_STORE": "memory",
        # whatever still tries the outside world finds a closed door at once
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
    }


@pytest.fixture(scope="session")
def installation(built_home: Path | None) -> Path:
    """An HM_HOME with the time server built, papered, verified and locked."""
    home = built_home or cache_dir() / "home"
    settings = Settings.load(home=home)
    try:
        engine = Engine.connect(settings)
    except EngineError as e:
        pytest.skip(f"no container engine: {e.message}")
    try:
        with (cache_dir() / "home.guard").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            prepared = prepare(settings, engine, ("time",), yes=False, say=print)
    finally:
        engine.close()
    assert not prepared.failed, prepared.failed
    assert "time" in read_lock(settings.lock_file)
    return home


@dataclass
class Running:
    """``hm gateway run`` in a process of its own."""

    home: Path
    port: int
    process: subprocess.Popen[bytes]
    env: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def token(self) -> str:
        return TokenStore(Settings.load(home=self.home).tokens_file).default()


@pytest.fixture
def running(installation: Path, bare_env: dict[str, str]) -> Iterator[Running]:
    env = {**bare_env, "HM_HOME": str(installation), "HM_POOL_SPARES": "0"}  # tests count the sandboxes in use
    process = subprocess.Popen([*HM, "gateway", "run", "--port", "0"], env=env, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        port = _port(process.stderr)
        yield Running(installation, port, process, {**env, "HM_GATEWAY_PORT": str(port)})
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert _sandboxes(LABEL_OWNER, f"{process.pid}-") == [], "a sandbox outlived its gateway"


@pytest.fixture
def sandboxes_of() -> Callable[[int], list[str]]:
    """The names of the sandboxes that a process owns, running or not."""
    return lambda pid: _sandboxes(LABEL_OWNER, f"{pid}-")


@pytest.fixture
def sandboxes_of_home(installation: Path) -> Callable[[], list[str]]:
    """The names of the sandboxes of this installation, whichever process owns them."""
    return lambda: _sandboxes(LABEL_HOME, None, installation)


def _sandboxes(label: str, prefix: str | None, home: Path | None = None) -> list[str]:
    engine = Engine.connect(Settings.load(home=home) if home else Settings.load())
    try:
        prefix = engine.home_label if prefix is None else prefix
        found = engine.client.containers.list(all=True, ignore_removed=True, filters={"label": LABEL_SANDBOX})
        return sorted(c.name for c in found if c.labels.get(label, "").startswith(prefix))
    finally:
        engine.close()


def _port(stderr: IO[bytes]) -> int:
    said = b""
    for line in stderr:
        said += line
        if match := STARTED.search(line):
            return int(match[1])
    raise AssertionError(f"the gateway did not start:\n{said.decode()}")
