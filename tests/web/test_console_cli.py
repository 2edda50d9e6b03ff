"""``hm console``: tokens, links, and a server that starts and ends as it is told."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from harbourmaster.cli import main
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from web.access import Access
from web.errors import AddressInUse, LoginRefused
from web.serve import listen


@pytest.fixture
def console() -> None:
    """None is needed here."""


@pytest.fixture(autouse=True)
def as_it_was_made() -> None:
    """Nothing to put back."""


def hm(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["console", *words])
    assert ended.value.code == 0
    return capsys.readouterr().out.strip()


def test_tokens_have_roles_and_end(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    owner = hm(capsys, "token")
    assert hm(capsys, "token") == owner
    anna = hm(capsys, "token", "--role", "viewer", "--name", "anna")
    access = Access.of(Settings.load())
    assert (access.bearer(owner).role, access.bearer(anna).role) == ("admin", "viewer")
    assert re.findall(r"^(\S+) +(\S+) ", hm(capsys, "token", "--ls"), re.M) == [
        ("default", "admin"),
        ("viewer.anna", "viewer"),
    ]
    hm(capsys, "token", "--revoke", "viewer.anna")
    with pytest.raises(LoginRefused):
        access.bearer(anna)
    for path in (home / "secrets").glob("console*"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_role_that_there_is_not_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["console", "token", "--role", "captain"])
    assert ended.value.code == 2
    assert "no role 'captain'" in capsys.readouterr().err


def test_a_printed_link_lets_in(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = hm(capsys, "link")
    assert link.startswith("http://127.0.0.1:8810/enter/")
    assert Access.of(Settings.load()).link(link.rpartition("/")[2]).role == "admin"


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AddressInUse) as caught:
            listen("127.0.0.1", taken.getsockname()[1])
    assert isinstance(caught.value, HarbourError)
    assert caught.value.remedy


def test_it_runs_until_it_is_told_to_stop(home: Path) -> None:
    command = [sys.executable, "-m", "harbourmaster", "console", "run", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            said = ""
            while "log in once" not in said:
                line = process.stderr.readline()
                assert line, said
                said += line
            address = re.search(r"http://127\.0\.0\.1:\d+", said)
            assert address
            assert "enter/" not in said + process.stderr.readline()  # nobody is at a terminal
            page = httpx2.get(address[0] + "/login", timeout=30)
            assert (page.status_code, "Permission to come aboard" in page.text) == (200, True)
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            assert process.wait(30) in (0, -signal.SIGTERM)
            assert "Traceback" not in rest
        finally:
            process.kill()
