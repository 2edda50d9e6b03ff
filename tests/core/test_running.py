"""Gateways say where they listen; whoever looks for one believes only those that live."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harbourmaster.core.alive import start_time
from harbourmaster.core.running import (
    Listening,
    SeveralGateways,
    console_url,
    gateway_url,
    listening,
    recorded,
    runner_url,
    the_gateway,
)
from harbourmaster.core.settings import Settings


def write(
    settings: Settings, port: int, *, pid: int = os.getpid(), servers: tuple[str, ...] = (), late: int = 0
) -> None:
    """A record as another process of that id would write it; the file's name does not matter to readers."""
    folder = settings.run_dir / "gateways"
    folder.mkdir(parents=True, exist_ok=True)
    body = {"pid": pid, "started": (start_time(pid) or 0) + late, "host": "127.0.0.1", "port": port, "servers": servers}
    (folder / f"{port}.json").write_text(json.dumps(body))


def test_a_gateway_is_found_while_it_runs_and_not_after(settings: Settings) -> None:
    with recorded(settings.run_dir, "127.0.0.1", 4711):
        assert [g.url for g in listening(settings.run_dir)] == ["http://127.0.0.1:4711/mcp"]
        assert gateway_url(settings) == "http://127.0.0.1:4711/mcp"
    assert listening(settings.run_dir) == []
    assert gateway_url(settings) == f"http://127.0.0.1:{settings.gateway_port}/mcp"


def test_the_record_is_for_this_user_alone(settings: Settings) -> None:
    with recorded(settings.run_dir, "127.0.0.1", 1):
        (file,) = (settings.run_dir / "gateways").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600


def test_what_a_crash_left_is_not_believed_and_is_cleared_away_by_the_next_gateway(settings: Settings) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    write(settings, 1, pid=child.pid)
    write(settings, 2, late=1)  # our own pid, but of a process that started at another time
    (settings.run_dir / "gateways" / "3.json").write_text("{")
    assert listening(settings.run_dir) == []
    assert the_gateway(settings) is None
    with recorded(settings.run_dir, "127.0.0.1", 4):
        assert [f.name for f in (settings.run_dir / "gateways").iterdir()] == [f"{os.getpid()}.json"]


def test_a_gateway_that_listens_everywhere_is_called_on_loopback() -> None:
    assert Listening(1, 1, "0.0.0.0", 80).url == "http://127.0.0.1:80/mcp"
    assert Listening(1, 1, "::", 80).url == "http://[::1]:80/mcp"


def test_of_several_the_configured_one_is_meant(settings: Settings) -> None:
    write(settings, 5001)
    write(settings, 5002)
    found = the_gateway(settings.model_copy(update={"gateway_port": 5002}))
    assert found is not None
    assert found.port == 5002


def test_of_several_at_other_addresses_none_is_guessed_and_the_setting_is_named(settings: Settings) -> None:
    write(settings, 5001)
    write(settings, 5002)
    with pytest.raises(SeveralGateways, match=r"5001.*5002") as e:
        the_gateway(settings)
    assert "HM_GATEWAY_PORT=500" in e.value.remedy


def test_a_gateway_of_a_few_servers_is_asked_only_for_those(settings: Settings) -> None:
    write(settings, 5001, servers=("time",))
    assert the_gateway(settings) is None
    assert the_gateway(settings, "fetch") is None
    found = the_gateway(settings, "time")
    assert found is not None
    write(settings, 5002)  # one that serves everything is preferred
    found = the_gateway(settings, "time")
    assert found is not None
    assert found.port == 5002


def test_a_folder_that_is_not_there_means_that_none_runs(tmp_path: Path) -> None:
    assert listening(tmp_path / "nowhere") == []


def test_console_and_runner_are_where_hm_up_runs_them(settings: Settings) -> None:
    assert runner_url(settings) == f"http://127.0.0.1:{settings.runner_port}"
    me = {"pid": os.getpid(), "started": start_time(os.getpid())}
    addresses = {"console": "127.0.0.1:7001", "runner": "127.0.0.1:7002"}
    settings.run_dir.mkdir(parents=True)
    state = settings.run_dir / "harbour.json"
    state.write_text(json.dumps({"supervisor": me, "addresses": addresses}))
    assert (console_url(settings), runner_url(settings)) == ("http://127.0.0.1:7001", "http://127.0.0.1:7002")
    state.write_text(json.dumps({"supervisor": {"pid": os.getpid(), "started": 1}, "addresses": addresses}))
    assert console_url(settings) == f"http://127.0.0.1:{settings.console_port}"
