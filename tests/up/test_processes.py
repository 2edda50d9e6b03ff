import socket
from pathlib import Path

import pytest

from harbourmaster.core.settings import Settings
from harbourmaster.up.errors import PortTaken
from harbourmaster.up.processes import Service, services, without_a_place
from harbourmaster.up.starting import with_a_place


def listener() -> socket.socket:
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen()
    return s


def service(name: str, port: int) -> Service:
    return Service(name, ("true",), "127.0.0.1", port)


def test_up_runs_the_gateway_the_console_the_runner_and_one_job_that_prepares_models(home: Path) -> None:
    found = services(Settings.load(gateway_port=1111, console_port=2222, runner_port=3333))
    assert [(s.name, s.address if s.port else "", s.once) for s in found] == [
        ("gateway", "127.0.0.1:1111", False),
        ("console", "127.0.0.1:2222", False),
        ("runner", "127.0.0.1:3333", False),
        ("models", "", True),
    ]
    assert [s.name for s in services(Settings.load(), models=False, console=False)] == ["gateway"]


def test_a_port_that_another_program_keeps_leaves_that_service_out_and_says_which_setting_moves_it() -> None:
    said: list[str] = []
    with listener() as taken, listener() as other:
        free = other.getsockname()[1]
        other.close()
        console, runner = service("console", taken.getsockname()[1]), service("runner", free)
        assert without_a_place([console, runner], patience_s=0) == [console]
        assert with_a_place(Settings.load(), [console, runner], said.append) == [runner]
    assert "HM_CONSOLE_PORT" in said[0]


def test_the_gateway_is_never_left_out() -> None:
    with listener() as taken, pytest.raises(PortTaken, match=str(taken.getsockname()[1])):
        with_a_place(Settings.load(), [service("gateway", taken.getsockname()[1])], print)
