"""Other people's MCP clients, installed once from npm into a cache outside the repository.

``HM_TEST_CACHE`` names the cache (default: the user's cache directory).  Versions and hashes are those of
package-lock.json; no install script runs, so what the packages ship is started directly.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CPU = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
MANIFESTS = ("package.json", "package-lock.json", ".npmrc")
INSTALL_S = 900


@dataclass(frozen=True)
class Clients:
    modules: Path

    @property
    def node(self) -> Path:
        return self.modules / f"node-linux-{CPU}" / "bin" / "node"

    @property
    def inspector(self) -> list[str]:
        launcher = self.modules / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build" / "index.js"
        return [str(self.node), str(launcher), "--cli"]

    @property
    def claude(self) -> list[str]:
        return [str(self.modules / "@anthropic-ai" / f"claude-code-linux-{CPU}" / "claude")]


@pytest.fixture(scope="session")
def clients() -> Clients:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    cache = _cache()
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in MANIFESTS)).hexdigest()[:16]
    target = cache / f"clients-{CPU}-{digest}"
    with (cache / "clients.guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not target.exists():
            _install(npm, target)
    return Clients(target / "node_modules")


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
        # whatever still tries the outside world finds a closed door at once
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def _cache() -> Path:
    named = os.environ.get("HM_TEST_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(named) if named else base / "harbourmaster-test"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _install(npm: str, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name in MANIFESTS:
        shutil.copy(HERE / name, partial / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=partial, capture_output=True, text=True, timeout=INSTALL_S)
    assert done.returncode == 0, f"npm ci failed: {done.stderr[-2000:]}"
    partial.rename(target)
