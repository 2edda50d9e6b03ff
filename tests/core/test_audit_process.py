"""The audit through its writer process: the same promises, and what was appended outlives its sender."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harbourmaster.core import audit_trail
from harbourmaster.core.audit import AuditLog, AuditRecordInvalid, AuditUnavailable, tail, verify
from harbourmaster.core.audit_process import AuditProcess


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AuditProcess]:
    log = AuditProcess(tmp_path)
    yield log
    log.close()


def numbers(directory: Path) -> list[int]:
    return [r["number"] for r in tail(directory, 10**9) if "number" in r]


def test_what_was_appended_is_read_back_in_order(log: AuditProcess, tmp_path: Path) -> None:
    for number in range(5000):
        log.append({"kind": "call", "number": number})
    log.flush()
    assert numbers(tmp_path) == list(range(5000))
    assert verify(tmp_path).records == 5000


def test_a_durable_record_comes_back_as_it_was_written(log: AuditProcess, tmp_path: Path) -> None:
    log.append({"kind": "call", "server": "first"})
    written = log.append_durably({"kind": "call", "server": "second", "principal": "défaut 🚢"})
    assert written == tail(tmp_path, 1)[0]
    assert written["seq"] == 2


def test_a_record_that_is_none_is_refused_at_once(log: AuditProcess) -> None:
    with pytest.raises(AuditRecordInvalid):
        log.append({"kind": "call", "nested": {}})


def test_threads_and_other_processes_share_one_chain(log: AuditProcess, tmp_path: Path) -> None:
    other = AuditLog(tmp_path)

    def work(name: str) -> None:
        for number in range(200):
            log.append({"kind": "call", "server": name, "n": number})
            other.append({"kind": "call", "server": f"other-{name}", "n": number})

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.flush()
    other.close()
    records = tail(tmp_path, 10_000)
    assert verify(tmp_path).records == len(records) == 1600
    for name in ("t0", "other-t3"):
        assert [r["n"] for r in records if r["server"] == name] == list(range(200))


def test_appending_after_close_is_refused(tmp_path: Path) -> None:
    log = AuditProcess(tmp_path)
    log.append({"kind": "call"})
    log.close()
    log.close()
    with pytest.raises(AuditUnavailable, match="closed"):
        log.append({"kind": "call"})
    assert verify(tmp_path).records == 1


def test_a_directory_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AuditUnavailable):
        AuditProcess(tmp_path / "file" / "audit")


def test_a_killed_sender_loses_nothing_that_it_appended(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from harbourmaster.core.audit_process import AuditProcess\n"
        "log = AuditProcess(Path(sys.argv[1]))\n"
        "for n in range(1000): log.append({'kind': 'call', 'number': n})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with audit_trail.locked(tmp_path):  # the writer has taken what it got, or will
        pass
    last = AuditProcess(tmp_path)
    for _ in range(100):
        last.append_durably({"kind": "call"})
        if len(numbers(tmp_path)) == 1000:
            break
    last.close()
    assert numbers(tmp_path) == list(range(1000))
    verify(tmp_path)


def test_signals_of_a_terminal_do_not_end_the_writer(log: AuditProcess, tmp_path: Path) -> None:
    log.append_durably({"kind": "call"})
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(log._writer.pid, number)
    log.append_durably({"kind": "call"})
    assert verify(tmp_path).records == 2
    assert os.getpgid(log._writer.pid) != os.getpgid(0)


def test_a_killed_writer_is_replaced_and_what_was_unsure_is_there(log: AuditProcess, tmp_path: Path) -> None:
    log.append_durably({"kind": "call", "number": 0})
    with audit_trail.locked(tmp_path):  # it cannot write what comes now
        for number in range(1, 100):
            log.append({"kind": "call", "number": number})
        log._writer.kill()
    back = 0
    while not back:
        with contextlib.suppress(AuditUnavailable):  # while there is no writer, nothing may happen
            back = log.append_durably({"kind": "call", "number": 100})["seq"]
    assert numbers(tmp_path) == list(range(101))
    (notice,) = (r for r in tail(tmp_path, 200) if r["kind"] == "audit")
    assert notice["event"] == "repeated"
    assert notice["repeated"] >= 99, "the last may have come in time to be among them"
    verify(tmp_path)


def test_a_full_queue_refuses_instead_of_growing(tmp_path: Path) -> None:
    log = AuditProcess(tmp_path, max_queue=50)
    with audit_trail.locked(tmp_path), pytest.raises(AuditUnavailable, match="wait to be written"):
        for _ in range(1000):
            log.append({"kind": "call"})
    log.flush()
    log.append({"kind": "call"})
    log.close()
    assert verify(tmp_path).records == 51


def test_more_than_the_pipe_holds_waits_its_turn(tmp_path: Path) -> None:
    log = AuditProcess(tmp_path)
    with audit_trail.locked(tmp_path):
        for number in range(1000):
            log.append({"kind": "call", "number": number, "text": "x" * 4000})
        assert log._unsent, "four megabytes do not fit"
    log.close()
    assert numbers(tmp_path) == list(range(1000))


def test_a_full_disk_stops_appends_until_a_retry_succeeds_and_loses_nothing(tmp_path: Path) -> None:
    log = AuditProcess(tmp_path)
    log.append_durably({"kind": "call", "number": 0})
    _, hard = resource.prlimit(log._writer.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(log._writer.pid, resource.RLIMIT_FSIZE, (400, hard))
    log.append({"kind": "call", "number": 1, "text": "x" * 1000})
    with pytest.raises(AuditUnavailable, match="too large"):
        log.flush()
    for refused in (log.append, log.append_durably):
        with pytest.raises(AuditUnavailable):
            refused({"kind": "call", "number": 9})
    resource.prlimit(log._writer.pid, resource.RLIMIT_FSIZE, (hard, hard))
    back = False
    while not back:
        with contextlib.suppress(AuditUnavailable):
            log.flush()
            back = True
    log.append({"kind": "call", "number": 2})
    log.close()
    assert numbers(tmp_path) == [0, 1, 2]
    verify(tmp_path)
