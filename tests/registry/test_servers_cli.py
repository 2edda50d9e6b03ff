"""``hm registry``: what people and scripts get back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harbourmaster.cli import main
from harbourmaster.core.settings import PROJECT_ROOT

SERVERS = PROJECT_ROOT / "registry" / "servers"

pytestmark = pytest.mark.usefixtures("home")


def hm(*arguments: str) -> int:
    try:
        main(["registry", *arguments])
    except SystemExit as e:
        return int(e.code or 0)
    return 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(SERVERS / "time", tmp_path / "servers" / "time")
    return tmp_path / "servers"


def test_ls_lists_what_can_be_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert hm("ls", "--json") == 0

    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["time"]["source"] == "pypi mcp-server-time"
    assert rows["time"]["built"] is False


def test_lint_passes_the_starter_catalog(capsys: pytest.CaptureFixture[str]) -> None:
    assert hm("lint") == 0
    assert "0 with problems" in capsys.readouterr().out


def test_lint_reports_every_bad_entry_and_fails(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(root / "time", root / "other")
    (root / "time" / "requirements.lock").unlink()

    status = hm("lint", "--root", str(root), "--json")

    problems = json.loads(capsys.readouterr().out)["problems"]
    assert status == 1
    assert {p["code"] for p in problems} == {"entry.invalid", "entry.lock"}
    assert all(p["remedy"] for p in problems)


def test_lint_refuses_a_relaxation_beyond_what_the_profile_allows(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = root / "time" / "server.yaml"
    more = "run:\n  sandbox:\n    memory_mb: {value: 999999, reason: wants it all}\n"
    entry.write_text(entry.read_text().replace("run:\n", more))

    assert hm("lint", "--root", str(root)) == 1
    assert "memory_mb" in capsys.readouterr().err


def test_show_tells_what_a_server_is_and_may(capsys: pytest.CaptureFixture[str]) -> None:
    assert hm("show", "context7", "--json") == 0

    body = json.loads(capsys.readouterr().out)
    assert body["entry"]["run"]["network"]["hosts"] == ["context7.com:443"]
    assert body["image"] is None


@pytest.mark.parametrize("verb", ["show", "build", "lock"])
def test_an_unknown_server_is_refused_with_the_known_names(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hm(verb, "flying-dutchman") == 1

    shown = capsys.readouterr().err
    assert "error [entry.not_found]" in shown
    assert "filesystem" in shown


def test_publishing_what_is_not_built_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert hm("publish", "time", "--to", "localhost:5000/team") == 1

    assert "hm registry build time" in capsys.readouterr().err
