"""`hm audit`: shows, searches and checks the trail."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harbourmaster.cli import main
from harbourmaster.core import audit_trail
from harbourmaster.core.audit import AuditLog
from harbourmaster.core.audit_search import moment
from harbourmaster.core.errors import UsageError


def hm(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(["audit", *arguments])
    return int(done.value.code or 0)


@pytest.fixture
def trail(home: Path) -> Path:
    log = AuditLog(home / "audit")
    log.append({"kind": "admission", "server": "time", "verdict": "denied", "policies": ["built.sbom-required"]})
    log.append({"kind": "call", "server": "time", "tool": "now", "outcome": "ok", "duration_ms": 1.5})
    log.append({"kind": "call", "server": "evil", "tool": "\x1b[31m[red]x[/red]\nfake", "outcome": "error"})
    log.close()
    return home / "audit"


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_tail_shows_the_newest_records(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hm("tail", "-n", "2", "--json") == 0
    assert [record["seq"] for record in lines(capsys)] == [2, 3]
    assert hm("tail") == 0
    assert "policies=built.sbom-required" in capsys.readouterr().out


def test_a_record_cannot_command_the_terminal(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hm("tail") == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\\x1b[31m[red]x[/red]\\nfake" in shown


def test_an_empty_trail_is_said_to_be_empty(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hm("tail") == 0
    assert hm("verify") == 0
    assert "nothing recorded" in capsys.readouterr().out


def test_verify_says_intact_or_where_it_is_not(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hm("verify") == 0
    assert "intact: 3 records" in capsys.readouterr().out
    assert hm("verify", "--json") == 0
    assert lines(capsys)[0]["records"] == 3
    (path,) = audit_trail.files(trail)
    path.write_bytes(path.read_bytes().replace(b'"denied"', b'"admits"'))
    assert hm("verify", "--json") == 1
    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["code"], error["details"]) == ("audit.broken", {"file": path.name, "line": 1})


def test_verify_explains_what_a_crash_left(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with audit_trail.files(trail)[0].open("ab") as f:
        f.write(b"half")
    assert hm("verify") == 0
    assert "line 4: 4 bytes half-written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ([], [1, 2, 3]),
        (["server=time"], [1, 2]),
        (["server=time", "--kind", "call"], [2]),
        (["sbom"], [1]),
        (["outcome=err"], []),
        (["policies=built.sbom-required"], [1]),
        (["duration_ms=1.5"], [2]),
        (["--since", "1h"], [1, 2, 3]),
        (["--since", "2999-01-01"], []),
        (["-n", "1"], [3]),
    ],
)
def test_search_finds_records_that_match_every_term(
    trail: Path, capsys: pytest.CaptureFixture[str], question: list[str], found: list[int]
) -> None:
    assert hm("search", *question, "--json") == 0
    assert [record["seq"] for record in lines(capsys)] == found


def test_a_time_is_read_as_an_age_or_a_date() -> None:
    now = datetime(2026, 11, 21, 12, 0, 0, 5000, tzinfo=UTC)
    assert moment("90s", now) == "2026-11-21T11:58:30.005Z"
    assert moment("2026-11-20T01:02:03+00:00", now) == "2026-11-20T01:02:03.000Z"
    with pytest.raises(UsageError):
        moment("yesterday", now)


def test_a_followed_trail_shows_records_as_they_are_written(trail: Path) -> None:
    command = [sys.executable, "-m", "harbourmaster", "audit", "tail", "-f", "-n", "1", "--json"]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["seq"] == 3
        log = AuditLog(trail)
        log.append({"kind": "call", "server": "late"})
        log.close()
        assert json.loads(follower.stdout.readline())["server"] == "late"
    finally:
        follower.kill()
        follower.communicate()
