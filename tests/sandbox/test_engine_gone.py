"""An engine that is away costs no file descriptors, however often it is asked."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.errors import EngineFailed

pytestmark = pytest.mark.engine


@pytest.fixture
def collected_later() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("listens", [True, False])
@pytest.mark.usefixtures("collected_later")
def test_a_refused_connection_is_closed_and_the_engine_that_is_back_is_asked_again(
    engine: Engine, tmp_path: Path, listens: bool
) -> None:
    if not engine.url.startswith("unix://"):
        pytest.skip("this engine has no Unix socket")
    address = tmp_path / "engine"
    address.symlink_to(engine.url.removeprefix("unix://"))
    away = Engine.connect(Settings.load(home=tmp_path, engine_url=f"unix://{address}"))
    away.ping()
    away.client.close()  # the connections that an engine's end ends
    address.unlink()
    if listens:  # to nobody: what an engine leaves that was killed
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(address))
    before = open_files()
    for _ in range(20):
        with pytest.raises(EngineFailed):
            away.ping()
    assert open_files() == before
    address.unlink(missing_ok=True)
    address.symlink_to(engine.url.removeprefix("unix://"))
    away.ping()
    away.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
