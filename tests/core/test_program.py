import sys
from pathlib import Path

import pytest

from harbourmaster.core import program


@pytest.mark.parametrize(
    ("typed", "told"),
    [("./hm", "run: ./hm doctor"), ("", "run: hm doctor"), ("/opt/my harbour/hm", "run: '/opt/my harbour/hm' doctor")],
)
def test_hints_name_the_program_as_it_was_typed(typed: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HM_PROGRAM", typed)
    assert program.as_typed("run: hm doctor") == told
    assert program.as_typed("run: ./hm doctor") == told


@pytest.mark.parametrize("text", ["hm: building", "rhythm up", "/usr/bin/hm up", "an hm", "algorithm down"])
def test_what_is_no_hint_stays_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HM_PROGRAM", "./hm")
    assert program.as_typed(text) == text


def test_clients_start_the_script_of_a_clone_and_the_command_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program.path() == program.PROJECT_ROOT / "hm"
    monkeypatch.setattr(program, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hm").touch()
    assert program.path() == tmp_path / "bin" / "hm"
    assert not program.is_clone()
