"""What a crash leaves is found by label and removed; what lives is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.owner import is_alive, owner_of_this_process, start_time
from sandbox.reaper import ALL, list_sandboxes, reap

Spawn = Callable[[int], "subprocess.Popen[str]"]


@pytest.fixture
def harbour(tmp_path: Path) -> Iterator[Engine]:
    """An engine seen from a home of this test's own."""
    engine = Engine.connect(Settings.load(home=tmp_path))
    yield engine
    reap(engine, owner=ALL)
    engine.close()


@pytest.fixture
def spawn(tmp_path: Path, echo_image: str, project_root: Path) -> Iterator[Spawn]:
    """A process that owns ``count`` running sandboxes."""
    children: list[subprocess.Popen[str]] = []

    def spawn_(count: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.sandbox.owner_process", str(tmp_path), echo_image, str(count)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=project_root)
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == f"{count}\n"
        return child

    yield spawn_
    for child in children:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


@pytest.mark.engine
def test_sandboxes_of_a_killed_process_are_removed_and_those_of_a_living_one_are_not(
    harbour: Engine, spawn: Spawn
) -> None:
    killed, living = spawn(2), spawn(1)
    assert reap(harbour) == 0
    killed.kill()
    killed.wait()
    assert reap(harbour) == 2
    assert [c["Labels"]["harbourmaster.owner"].partition("-")[0] for c in list_sandboxes(harbour)] == [str(living.pid)]


@pytest.mark.engine
def test_all_of_this_home_can_be_removed_and_another_home_is_left_alone(
    harbour: Engine, spawn: Spawn, engine: Engine
) -> None:
    spawn(2)
    assert reap(engine, owner=ALL) == 0
    assert reap(harbour, owner=ALL) == 2
    assert list_sandboxes(harbour) == []


@pytest.mark.engine
def test_one_owner_can_be_named(harbour: Engine, spawn: Spawn) -> None:
    first, second = spawn(1), spawn(1)
    assert reap(harbour, owner=f"{first.pid}-{start_time(first.pid)}") == 1
    assert reap(harbour, owner=f"{second.pid}-{start_time(second.pid)}") == 1


@pytest.mark.engine
def test_a_server_ends_with_the_process_that_spoke_to_it(harbour: Engine, spawn: Spawn) -> None:
    child = spawn(1)
    (container,) = (c["Id"] for c in list_sandboxes(harbour))
    child.kill()
    child.wait()
    assert harbour.api.wait(container, timeout=30)["StatusCode"] == 0
    assert reap(harbour) == 1


def test_this_process_is_alive() -> None:
    assert is_alive(owner_of_this_process())


def test_a_reused_process_id_is_not_its_owner() -> None:
    started = start_time(os.getpid())
    assert started is not None
    assert not is_alive(f"{os.getpid()}-{started + 1}")


@pytest.mark.parametrize("label", ["", "x", "1", "-5", "99999999-1", "1-", "../1-2"])
def test_a_label_that_names_no_process_names_nobody(label: str) -> None:
    assert not is_alive(label)


def test_a_process_that_has_ended_but_is_not_yet_collected_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_time(child.pid) is None
    child.wait()
    child.stdout.close()
