"""What builds have running elsewhere ends with them, and bars say what failed."""

import io
import re

import pytest
from rich.console import Console

from registry.build.errors import BuildFailed
from registry.build.underway import Underway
from registry.cli_progress import progress_view


def test_breaking_off_ends_what_runs_and_nothing_new_starts_until_builds_begin_again() -> None:
    builds, ended = Underway(), []
    with builds.held(lambda: ended.append("first")), builds.held(lambda: ended.append("second")):
        builds.end()
    assert sorted(ended) == ["first", "second"]
    with pytest.raises(BuildFailed, match="broken off"), builds.held(lambda: ended.append("late")):
        raise AssertionError("it was let in")
    assert ended[-1] == "late"
    builds.begin()
    with builds.held(lambda: ended.append("never")):
        builds.require_wanted()
    assert "never" not in ended


def test_what_is_over_is_not_ended() -> None:
    builds, ended = Underway(), []
    with builds.held(lambda: ended.append(1)):
        pass
    builds.end()
    assert ended == []


@pytest.mark.parametrize("width", [40, 80, 200])
def test_bars_fit_the_terminal_and_mark_failures(width: int) -> None:
    out = io.StringIO()
    with progress_view(console=Console(file=out, force_terminal=True, width=width, color_system=None)) as view:
        view("time", "waiting", 0.0)
        view("time", "ready", 1.0)
        view("git", "failed: build.failed", 1.0)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert re.search(r"✓ time\b", plain)
    assert re.search(r"✗ git\b", plain)
    assert max(len(line) for line in re.split(r"[\r\n]+", plain)) <= width


def test_without_a_terminal_each_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_view(console=Console(file=io.StringIO())) as view:
        for fraction in (0.1, 0.2):
            view("time", "install packages", fraction)
        view("time", "ready", 1.0)
    assert capsys.readouterr().err == "  time: install packages\n  time: ready\n"
