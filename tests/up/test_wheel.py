"""An installed package has all that the clone has: nothing at run time may come from the clone's folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

pytestmark = [pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("harbourmaster", "policies", "sandbox", "registry", "catalog", "gateway", "runner", "web")
BUILD = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"


def tracked() -> set[str]:
    """With what is not committed yet, but without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-zco", "--exclude-standard", *PACKAGES], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git clone: nothing says which files belong to the project")
    return {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from copies of the tracked files, because a build leaves folders beside them."""
    place = tmp_path_factory.mktemp("wheel")
    for name in {*tracked(), "pyproject.toml", "README.md", "LICENSE"}:
        (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / "source" / name)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD, str(place)], cwd=place / "source", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (built,) = place.glob("*.whl")
    return built


def test_every_tracked_file_of_the_packages_is_in_the_wheel_and_nothing_else(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert sorted(tracked() - held) == []
    assert sorted(held - tracked()) == []


@pytest.fixture(scope="module")
def site(wheel: Path) -> Path:
    """What an installer unpacks, without the dependencies: those are this environment's own."""
    place = wheel.parent / "site"
    zipfile.ZipFile(wheel).extractall(place)
    return place


@pytest.fixture
def environment(site: Path, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(site), "HM_HOME": str(tmp_path / "home")}


def hm(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    where = Path(environment["HM_HOME"]).parent
    command = [sys.executable, "-m", "harbourmaster", *words]
    return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)


def test_the_command_line_finds_its_data(environment: dict[str, str], site: Path) -> None:
    probe = "import harbourmaster.core.settings as s, runner.install as r; print(s.PROJECT_ROOT, r.LOCK.is_file())"
    where = Path(environment["HM_HOME"]).parent
    found = subprocess.run(
        [sys.executable, "-c", probe], cwd=where, env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [str(site), "True"]
    assert hm(environment, "version").returncode == 0
    starters = json.loads(hm(environment, "registry", "ls", "--json").stdout)
    assert {row["name"] for row in starters} >= {"time", "fetch", "git"}
    assert hm(environment, "registry", "lint").returncode == 0
    assert hm(environment, "catalog", "search", "clock", "--json").returncode == 0
    findings = {f["name"]: f["level"] for f in json.loads(hm(environment, "doctor", "--json").stdout)}
    assert findings["policies"] == findings["trust policy"] == "ok"


def test_new_entries_are_not_written_among_the_installed_files(environment: dict[str, str]) -> None:
    refused = hm(environment, "registry", "new", "--pypi", "mcp-server-time")
    assert refused.returncode == 2
    assert "--root" in refused.stderr


@pytest.fixture
def serving(environment: dict[str, str]) -> Iterator[object]:
    """Starts a command that listens and waits until it answers."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str, path: str) -> str:
        with socket.create_server(("127.0.0.1", 0)) as s:
            port = s.getsockname()[1]
        command = [sys.executable, "-m", "harbourmaster", *words, "--port", str(port)]
        where = Path(environment["HM_HOME"]).parent
        process = subprocess.Popen(command, cwd=where, env=environment, stderr=subprocess.PIPE)
        running.append(process)
        while process.poll() is None:
            try:
                httpx2.get(f"http://127.0.0.1:{port}{path}", trust_env=False)
                return f"http://127.0.0.1:{port}"
            except httpx2.TransportError:
                time.sleep(0.05)
        raise AssertionError(process.stderr.read().decode() if process.stderr else "")

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_the_console_serves_pages_and_static_files(serving) -> None:
    console = serving("console", "run", path="/login")
    with httpx2.Client(base_url=console, trust_env=False, follow_redirects=True) as browser:
        page = browser.get("/")
        assert page.status_code == 200
        assert "Harbourmaster" in page.text
        for file in ("harbour.css", "console.js", "icon.svg", "htmx/htmx.min.js"):
            assert browser.get(f"/static/{file}").status_code == 200, file


@pytest.mark.engine
def test_the_gateway_runs(serving) -> None:
    gateway = serving("gateway", "run", path="/healthz")
    assert httpx2.get(f"{gateway}/healthz", trust_env=False).status_code == 200
