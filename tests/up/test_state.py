import os
import subprocess
import sys
from pathlib import Path

from harbourmaster.core.alive import start_time
from harbourmaster.up.state import (
    ProcessState,
    RunState,
    clear_state,
    current_process,
    is_alive,
    read_state,
    state_file,
    write_state,
)


def test_a_dead_process_and_a_reused_pid_are_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = ProcessState(child.pid, start_time(child.pid) or 0)
    assert is_alive(process)
    assert not is_alive(ProcessState(child.pid, process.started + 1))
    child.communicate(b"\n")
    assert not is_alive(process)


def test_state_of_a_supervisor_that_is_gone_is_not_believed(tmp_path: Path) -> None:
    me = current_process()
    write_state(tmp_path, RunState(me, "http://127.0.0.1:1/mcp", "now", {"gateway": me}))
    assert read_state(tmp_path) == RunState(me, "http://127.0.0.1:1/mcp", "now", {"gateway": me})
    write_state(tmp_path, RunState(ProcessState(os.getpid(), me.started + 1), "u", "now"))
    assert read_state(tmp_path) is None
    clear_state(tmp_path)
    clear_state(tmp_path)


def test_a_damaged_state_file_reads_as_nothing_running(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"supervisor": 1}'):
        state_file(tmp_path).write_text(text)
        assert read_state(tmp_path) is None
