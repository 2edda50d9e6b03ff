"""The root of the command line: what the machine refuses is said in a line, and shells complete what people type."""

import errno
import os
import subprocess
import sys

import pytest

from harbourmaster.cli import COMMANDS, GROUPS, main, refused_by_system
from harbourmaster.cli_completion import SCRIPTS


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free some space"), (errno.EACCES, "HM_HOME"), (errno.EIO, "hm doctor")]
)
def test_what_the_system_refuses_names_the_file_and_a_remedy(number: int, remedy: str) -> None:
    error = refused_by_system(OSError(number, os.strerror(number), "/some/place"))
    assert error.message == f"/some/place: {os.strerror(number)}"
    assert remedy in error.remedy


def test_a_home_that_is_a_file_ends_in_one_line_and_no_traceback(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("HM_HOME", str(tmp_path / "home"))
    with pytest.raises(SystemExit) as e:
        main(["token", "show"])
    assert e.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error [")
    assert "what to do" in said
    assert len(said.splitlines()) == 2


def completed(line: str, home: str, shell: str = "bash") -> list[str]:
    words = line.split(" ")
    environment = {**os.environ, "HM_HOME": home, "_HM_COMPLETE": f"complete_{shell}"}
    environment |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_TYPER_COMPLETE_ARGS": line}
    done = subprocess.run(
        [sys.executable, "-m", "harbourmaster"], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_commands_groups_and_their_verbs_complete(tmp_path) -> None:
    assert set(completed("hm ", str(tmp_path))) == {*COMMANDS, *GROUPS}
    assert completed("./hm dow", str(tmp_path)) == ["down"]
    assert {"create", "ls", "revoke", "show"} <= set(completed("hm token ", str(tmp_path)))
    assert "--expires" in completed("hm token create --", str(tmp_path))


def test_names_complete_from_what_is_there(tmp_path) -> None:
    assert "claude-code" in completed("hm client connect cl", str(tmp_path))
    assert completed("hm verify ti", str(tmp_path)) == ["time"]
    assert completed("hm call ", str(tmp_path)) == []  # no lock: nothing, and no error
    (tmp_path / "harbour.lock").write_text("garbage")
    assert completed("hm call ", str(tmp_path)) == []


@pytest.mark.parametrize("shell", SCRIPTS)
def test_each_shell_has_a_script_that_asks_the_program_as_it_was_typed(shell: str, capsys) -> None:
    with pytest.raises(SystemExit) as e:
        main(["completion", shell])
    assert e.value.code == 0
    script = capsys.readouterr().out
    assert script.startswith("# ")
    assert f"complete_{shell}" in script


def test_bash_completes_a_program_that_was_typed_with_a_path(tmp_path) -> None:
    program = tmp_path / "hm"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m harbourmaster "$@"\n')
    program.chmod(0o755)
    ask = 'COMP_WORDS=(./hm aud); COMP_CWORD=1; _hm_completion ./hm; printf "%s\\n" "${COMPREPLY[@]}"'
    environment = {**os.environ, "HM_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["bash", "--norc", "-c", SCRIPTS["bash"] + ask],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["audit"]


def test_no_completion_for_an_unknown_shell(capsys) -> None:
    with pytest.raises(SystemExit) as e:
        main(["completion", "tcsh"])
    assert e.value.code == 2
    assert "bash, zsh, fish" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["call"], ["profile", "add"], ["audit", "tail"], ["server", "add"], []])
def test_help_has_no_type_names_of_a_program(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as e:
        main([*words, "--help"])
    assert e.value.code == 0
    said = capsys.readouterr().out
    assert "Usage: hm" in said
    assert [word for word in ("<bool>", "<str>", "list[") if word in said] == []


@pytest.mark.parametrize("words", [["nosuch"], ["up", "--nosuch"], ["token", "nosuch"], ["call"]])
def test_a_mistyped_command_is_named_and_ends_with_status_2(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as e:
        main(words)
    assert e.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert words[-1] in said or "SERVER.TOOL" in said
