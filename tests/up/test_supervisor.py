import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from harbourmaster.up.state import read_state
from harbourmaster.up.supervisor import FIRST_BACKOFF_S, MAX_BACKOFF_S, STABLE_AFTER_S, backoff_after


def test_back_off_doubles_is_bounded_and_starts_over_after_a_stable_minute() -> None:
    waits, wait = [], 0.0
    for _ in range(9):
        wait = backoff_after(wait, lived_s=0.1)
        waits.append(wait)
    assert waits[:3] == [FIRST_BACKOFF_S, 2 * FIRST_BACKOFF_S, 4 * FIRST_BACKOFF_S]
    assert waits[-1] == MAX_BACKOFF_S
    assert backoff_after(MAX_BACKOFF_S, STABLE_AFTER_S) == FIRST_BACKOFF_S


def test_a_child_that_dies_is_started_again_and_all_end_with_the_supervisor(home: Path, tmp_path: Path) -> None:
    # The child says its pid on a fifo, then waits; killing it must bring a new one.
    fifo = tmp_path / "pids"
    os.mkfifo(fifo)
    child = f"import os, time; f = open({str(fifo)!r}, 'w'); f.write(str(os.getpid())); f.close(); time.sleep(600)"
    script = textwrap.dedent(f"""
        import sys
        from harbourmaster.core.settings import Settings
        from harbourmaster.up.processes import Service
        from harbourmaster.up.supervisor import Supervisor
        Supervisor(Settings.load(), [Service("one", (sys.executable, "-c", {child!r}))]).run()
    """)
    supervisor = subprocess.Popen([sys.executable, "-c", script])
    try:
        first = int(fifo.read_text())
        os.kill(first, signal.SIGKILL)
        second = int(fifo.read_text())
        assert second != first
    finally:
        supervisor.terminate()
        assert supervisor.wait(30) == 0
    assert not Path(f"/proc/{second}").exists()
    assert not (home / "run" / "harbour.json").exists()


def test_children_end_when_the_supervisor_is_killed(home: Path, tmp_path: Path) -> None:
    fifo, gone = tmp_path / "pid", tmp_path / "gone"
    os.mkfifo(fifo)
    os.mkfifo(gone)
    # The child holds the write end of a second fifo open: its end of file is the news of the child's death.
    child = (
        f"import os, time; f = open({str(fifo)!r}, 'w'); f.write(str(os.getpid())); f.close(); "
        f"g = open({str(gone)!r}, 'w'); time.sleep(600)"
    )
    script = textwrap.dedent(f"""
        import sys
        from harbourmaster.core.settings import Settings
        from harbourmaster.up.processes import Service
        from harbourmaster.up.supervisor import Supervisor
        Supervisor(Settings.load(), [Service("one", (sys.executable, "-c", {child!r}))]).run()
    """)
    supervisor = subprocess.Popen([sys.executable, "-c", script])
    fifo.read_text()
    with gone.open() as end:
        supervisor.kill()
        supervisor.wait()
        assert end.read() == ""


def test_a_job_runs_once_and_ends_with_its_helpers_when_the_supervisor_ends(home: Path, tmp_path: Path) -> None:
    runs, fifo = tmp_path / "runs", tmp_path / "helper"
    os.mkfifo(fifo)
    # One job that is done at once; one whose own child holds the write end of the fifo until it is ended.
    once = f"open({str(runs)!r}, 'a').write('ran\\n')"
    helper = f"f = open({str(fifo)!r}, 'w'); f.write('x'); f.flush(); import time; time.sleep(600)"
    long = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {helper!r}])"
    script = textwrap.dedent(f"""
        import sys
        from harbourmaster.core.settings import Settings
        from harbourmaster.up.processes import Service
        from harbourmaster.up.supervisor import Supervisor
        jobs = [
            Service("short", (sys.executable, "-c", {once!r}), once=True),
            Service("long", (sys.executable, "-c", {long!r}), once=True),
        ]
        Supervisor(Settings.load(), jobs).run()
    """)
    supervisor = subprocess.Popen([sys.executable, "-c", script])
    with fifo.open() as helper_lives:
        assert helper_lives.read(1) == "x"
        while state_names(home) != {"long"}:
            assert supervisor.poll() is None
            time.sleep(0.02)
        supervisor.terminate()
        assert helper_lives.read() == ""  # every writer is gone
    assert supervisor.wait(30) == 0
    assert runs.read_text() == "ran\n"


def state_names(home: Path) -> set[str]:
    state = read_state(home / "run")
    return set(state.processes) if state else set()
