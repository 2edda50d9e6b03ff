import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

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
        from harbourmaster.up.supervisor import Supervisor
        Supervisor(Settings.load(), {{"one": [sys.executable, "-c", {child!r}]}}).run()
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
        from harbourmaster.up.supervisor import Supervisor
        Supervisor(Settings.load(), {{"one": [sys.executable, "-c", {child!r}]}}).run()
    """)
    supervisor = subprocess.Popen([sys.executable, "-c", script])
    fifo.read_text()
    with gone.open() as end:
        supervisor.kill()
        supervisor.wait()
        assert end.read() == ""
