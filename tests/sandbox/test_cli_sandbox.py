"""``hm sandbox`` as a person types it, in a process of its own, while a sandbox of the same home runs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.reaper import ALL, list_sandboxes, reap
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec
from tests.sandbox.conftest import PATIENCE_S

pytestmark = pytest.mark.engine


@pytest.fixture
def harbour(tmp_path: Path) -> Any:
    engine = Engine.connect(Settings.load(home=tmp_path))
    yield engine
    reap(engine, owner=ALL)
    engine.close()


@pytest.fixture
async def box(harbour: Engine, profile: Profile, probe_image: str) -> Any:
    spec = SandboxSpec("probe", probe_image, command=("chatter",), limits={"pids": 200})
    box = await Sandbox.start(harbour, profile, spec, on_line=lambda _: None, on_exit=lambda _: None)
    yield box
    await box.stop(grace_s=0.1)


async def spawn(home: Path, *arguments: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "HM_HOME": str(home), "COLUMNS": "200"}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "harbourmaster", "sandbox", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


async def hm(home: Path, *arguments: str) -> tuple[int, str, str]:
    process = await spawn(home, *arguments)
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_ps_names_what_runs_and_what_it_was_given_beyond_the_profile(tmp_path: Path, box: Sandbox) -> None:
    status, out, _ = await hm(tmp_path, "ps", "--json")
    (row,) = json.loads(out)
    assert status == 0
    assert (row["name"], row["server"], row["state"], row["relaxed"]) == (box.name, "probe", "running", "pids=200")
    assert row["owner"] == str(os.getpid())
    assert box.name in (await hm(tmp_path, "ps"))[1]


async def test_stats_tells_memory_time_and_processes(tmp_path: Path, box: Sandbox) -> None:
    _, out, _ = await hm(tmp_path, "stats", "--json")
    (row,) = json.loads(out)
    assert row["pids"] == 2
    assert 0 < row["memory_mib"] < row["memory_limit_mib"] == 512


async def test_stop_by_server_name_removes_it(tmp_path: Path, harbour: Engine, box: Sandbox) -> None:
    status, out, _ = await hm(tmp_path, "stop", "probe")
    assert (status, out) == (0, f"removed {box.name}\n")
    assert list_sandboxes(harbour) == []


async def test_stop_all_says_how_many(tmp_path: Path, harbour: Engine, box: Sandbox) -> None:
    assert (await hm(tmp_path, "stop", "--all"))[1] == "removed 1\n"
    assert list_sandboxes(harbour) == []


async def test_logs_shows_stderr_with_its_controls_made_visible_until_the_end(tmp_path: Path, box: Sandbox) -> None:
    follower = await spawn(tmp_path, "logs", box.name)
    assert follower.stdout is not None
    first = await asyncio.wait_for(follower.stdout.readuntil(b"noise"), PATIENCE_S)
    await box.stop(grace_s=0.1)
    rest, _ = await asyncio.wait_for(follower.communicate(), PATIENCE_S)
    out = (first + rest).decode()
    assert follower.returncode == 0
    assert "\\x1b[31mnoise" in out
    assert "\x1b" not in out


async def test_logs_of_a_server_are_those_of_all_its_sandboxes_each_line_with_its_name(
    tmp_path: Path, harbour: Engine, profile: Profile, probe_image: str, box: Sandbox
) -> None:
    spec = SandboxSpec("probe", probe_image, command=("chatter",))
    other = await Sandbox.start(harbour, profile, spec, on_line=lambda _: None, on_exit=lambda _: None)
    try:
        status, _, err = await hm(tmp_path, "stop", "probe")
        assert (status, box.name in err, other.name in err) == (1, True, True)  # it does not guess which
        follower = await spawn(tmp_path, "logs", "probe")
        assert follower.stdout is not None
        seen: set[str] = set()
        while seen != {box.name, other.name}:
            line = await asyncio.wait_for(follower.stdout.readline(), PATIENCE_S)
            assert line, "it ended before both were heard"
            seen.add(line.decode().partition("  ")[0])
    finally:
        await other.stop(grace_s=0.1)
        await box.stop(grace_s=0.1)
    await asyncio.wait_for(follower.communicate(), PATIENCE_S)
    assert follower.returncode == 0


async def test_an_unknown_name_is_an_error_with_its_code(tmp_path: Path) -> None:
    status, _, err = await hm(tmp_path, "stop", "nobody")
    assert status == 1
    assert "sandbox.unknown" in err
    assert (await hm(tmp_path, "ps"))[1] == "no sandbox is running\n"


async def test_stop_without_saying_what_is_a_usage_error(tmp_path: Path) -> None:
    assert (await hm(tmp_path, "stop"))[0] == 2
