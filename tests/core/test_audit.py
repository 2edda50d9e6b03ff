"""The audit trail: what was appended is there, in order, chained; and when it cannot be, nothing goes on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from harbourmaster.core import audit_chain, audit_trail
from harbourmaster.core.audit import AuditBroken, AuditLog, AuditRecordInvalid, AuditUnavailable, tail, verify
from harbourmaster.core.canonical import canonical_digest

CALL: dict[str, Any] = {
    "kind": "call",
    "server": "time",
    "tool": "get_current_time",
    "principal": 'défaut 🚢 \u0007 \u2028 "quoted" \\ /',
    "outcome": "ok",
    "code": None,
    "duration_ms": 1.25,
    "cached": False,
    "policies": ["built.admit", "any.über"],
}


def fill(directory: Path, count: int) -> None:
    log = AuditLog(directory)
    for number in range(count):
        log.append({"kind": "call", "server": f"s{number}"})
    log.close()


def only_file(directory: Path) -> Path:
    (path,) = audit_trail.files(directory)
    return path


def edit(directory: Path, change: Any) -> None:
    path = only_file(directory)
    lines = path.read_bytes().splitlines(keepends=True)
    changed = change(lines)
    path.write_bytes(b"".join(lines if changed is None else changed))


def broken(directory: Path) -> AuditBroken:
    with pytest.raises(AuditBroken) as caught:
        verify(directory)
    assert caught.value.code == "audit.broken"
    return caught.value


def run(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    records = tail(tmp_path, 3)
    assert [r["server"] for r in records] == ["s2", "s3", "s4"]
    assert [r["seq"] for r in records] == [3, 4, 5]
    assert verify(tmp_path).records == 5


def test_tail_of_a_long_trail_reads_only_its_end_and_all_of_a_short_one(tmp_path: Path) -> None:
    fill(tmp_path, 3000)
    assert [r["seq"] for r in tail(tmp_path, 2)] == [2999, 3000]
    assert len(tail(tmp_path, 5000)) == 3000
    assert tail(tmp_path / "none", 5) == []


def test_the_hash_is_over_the_rfc_8785_form_that_a_separate_canonicaliser_writes(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    written = log.append_durably(CALL)
    log.append_durably(
        {"kind": "call", "duration_ms": 12.0, "n": -0.0, "small": 0.0004, "big": 2**53 - 1, "x": 1e11 / 3}
    )
    log.close()
    for record in tail(tmp_path, 2):
        digest = record.pop("hash")
        assert canonical_digest(record) == f"sha256:{digest}"
    assert {k: written[k] for k in CALL} == CALL
    assert written["prev"] == audit_chain.GENESIS


def test_a_record_is_copied_so_that_later_changes_by_the_caller_do_not_reach_the_trail(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    record: dict[str, Any] = {"kind": "call", "policies": ["a"]}
    log.append(record)
    record["policies"].append("b")
    record["kind"] = "forged"
    log.close()
    (found,) = tail(tmp_path, 1)
    assert (found["kind"], found["policies"]) == ("call", ["a"])


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": 5},
        {"kind": "audit", "event": "torn"},
        {"kind": "call", "seq": 1},
        {"kind": "call", "hash": "0" * 64},
        {"kind": "call", "Ключ": 1},
        {"kind": "call", "x": math.nan},
        {"kind": "call", "x": math.inf},
        {"kind": "call", "x": 2**53},
        {"kind": "call", "x": {"nested": 1}},
        {"kind": "call", "x": [1]},
        {"kind": "call", "x": b"bytes"},
        {"kind": "call", "x": "\ud800"},
        {"kind": "call", "x": "a" * 5000},
        {"kind": "call", "x": ["a"] * 300},
        {"kind": "call", **{f"f{n}": 1 for n in range(70)}},
    ],
)
def test_a_record_that_could_not_be_written_canonically_is_refused_at_once(tmp_path: Path, record: Any) -> None:
    log = AuditLog(tmp_path)
    with pytest.raises(AuditRecordInvalid):
        log.append(record)
    log.close()
    assert verify(tmp_path).records == 0


@pytest.mark.parametrize(
    "more",
    [
        {"ms": 1.23456, "count": 3, "whole": 2.0, "yes": True, "none": None, "names": ["a", "b"]},
        {"text": "x" * 5000},
        {"text": "\ud800"},
        {"names": ["\ud800"]},
        {"ms": math.nan},
        {"count": 1 << 60},
        {"deep": {"a": 1}},
        {"kind": "audit"},
        {"prev": "x"},
        {f"field_{n}": "" for n in range(70)},
        {"text": "é" * 3000},
    ],
)
def test_a_record_that_leaves_for_the_writer_is_what_the_log_would_have_taken(more: dict[str, Any]) -> None:
    """Twice: the second time its fields are known, and it goes the short way."""
    record = {"kind": "call", **more}

    def done(take: Any) -> Any:
        try:
            return json.loads(take())
        except AuditRecordInvalid as e:
            return type(e)

    for _ in range(2):
        expected = done(lambda: json.dumps([1.5, audit_chain.checked(record)]))
        assert done(lambda: audit_chain.encoded(1.5, record)) == expected


def test_threads_share_one_log(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)

    def work(name: str) -> None:
        for number in range(500):
            log.append({"kind": "call", "server": name, "number": number})

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert verify(tmp_path).records == 2000
    numbers = [r["number"] for r in tail(tmp_path, 2000) if r["server"] == "t2"]
    assert numbers == list(range(500))


def test_several_processes_append_to_one_chain(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from harbourmaster.core.audit import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]))\n"
        "for n in range(300):\n"
        "    log.append({'kind': 'call', 'server': sys.argv[2], 'number': n})\n"
        "    if n % 10 == 0: log.flush()\n"
        "log.close()\n"
    )
    workers = [run(code, str(tmp_path), f"p{n}") for n in range(3)]
    for worker in workers:
        _, err = worker.communicate()
        assert worker.returncode == 0, err
    assert verify(tmp_path).records == 900
    owners = [r["server"] for r in tail(tmp_path, 900)]
    assert sorted(set(owners)) == ["p0", "p1", "p2"]
    assert owners != sorted(owners), "the processes never alternated"


def test_what_is_queued_at_exit_is_written(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from harbourmaster.core.audit import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]))\n"
        "for n in range(50): log.append({'kind': 'call'})\n"
    )
    worker = run(code, str(tmp_path))
    _, err = worker.communicate()
    assert (worker.returncode, err) == (0, "")
    assert verify(tmp_path).records == 50


def test_appending_after_close_is_refused(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.close()
    log.close()
    for refused in (lambda: log.append({"kind": "call"}), lambda: log.append_durably({"kind": "call"}), log.flush):
        with pytest.raises(AuditUnavailable):
            refused()


def test_records_and_their_directory_are_private(tmp_path: Path) -> None:
    fill(tmp_path / "audit", 1)
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "audit").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_an_edited_record_is_named_by_file_and_line(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    edit(tmp_path, lambda lines: lines.__setitem__(2, lines[2].replace(b'"s2"', b'"sX"')))
    assert broken(tmp_path).details == {"file": only_file(tmp_path).name, "line": 3}


def test_an_edited_record_with_a_recomputed_hash_is_found_at_the_next_one(tmp_path: Path) -> None:
    fill(tmp_path, 5)

    def forge(lines: list[bytes]) -> None:
        record = json.loads(lines[2])
        moment, end = 1.0, audit_chain.ChainEnd(2, record["prev"])
        lines[2], _ = audit_chain.seal(end, moment, {"kind": "call", "server": "forged"})

    edit(tmp_path, forge)
    assert broken(tmp_path).details["line"] == 4


@pytest.mark.parametrize("keep", [slice(1, None), slice(0, 4)], ids=["first", "last"])
def test_records_removed_at_either_end_are_missed(tmp_path: Path, keep: slice) -> None:
    fill(tmp_path, 5)
    edit(tmp_path, lambda lines: lines[keep])
    assert "should be here" in str(broken(tmp_path)) or "missing from the end" in str(broken(tmp_path))


def test_a_record_removed_in_the_middle_is_missed(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    edit(tmp_path, lambda lines: lines.pop(2) and None)
    assert broken(tmp_path).details["line"] == 3


def test_swapped_records_are_noticed(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    edit(tmp_path, lambda lines: [lines[0], lines[2], lines[1], *lines[3:]])
    assert broken(tmp_path).details["line"] == 2


def test_the_last_record_replaced_by_a_well_formed_one_is_noticed_by_the_head(tmp_path: Path) -> None:
    fill(tmp_path, 3)

    def forge(lines: list[bytes]) -> None:
        prev = json.loads(lines[2])["prev"]
        lines[2], _ = audit_chain.seal(audit_chain.ChainEnd(2, prev), 1.0, {"kind": "call", "server": "forged"})

    edit(tmp_path, forge)
    assert "rewritten" in str(broken(tmp_path))


@pytest.mark.parametrize("change", [lambda line: b" " + line, lambda line: line.replace(b'"seq":1', b'"seq":1.0')])
def test_another_spelling_of_the_same_record_is_an_edit(tmp_path: Path, change: Any) -> None:
    fill(tmp_path, 2)
    edit(tmp_path, lambda lines: lines.__setitem__(0, change(lines[0])))
    assert broken(tmp_path).details["line"] == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b'"kind":', b'"kind": '),
        lambda body: body.replace(b'"kind":"call"', b'"kind":"evil","kind":"call"'),
        lambda body: body.replace(b"time", b"ti\\u006de"),
        lambda body: body.replace(b'"seq":1', b'"seq":1.0'),
        lambda body: body.replace(b'"seq":1', b'"seq":true'),
        lambda body: body.replace(b'"kind"', b'"Kind"'),
        lambda body: b"[" + body + b"]",
    ],
)
def test_a_line_in_another_spelling_is_no_record_though_its_hash_fits(change: Any) -> None:
    line, _ = audit_chain.seal(audit_chain.ChainEnd(), 1.0, {"kind": "call", "server": "time"})
    assert audit_chain.unseal(line[:-1])
    body = change(line.partition(b',"hash"')[0] + b"}")
    forged = body[:-1] + b',"hash":"' + hashlib.sha256(body).hexdigest().encode() + b'"}'
    assert audit_chain.unseal(forged) is None


def test_a_whole_file_removed_is_missed(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    only_file(tmp_path).unlink()
    assert "1 to 3 are missing" in str(broken(tmp_path))


def test_the_head_keeps_its_length_so_that_no_crash_can_tear_it(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    length = (tmp_path / audit_trail.HEAD).stat().st_size
    fill(tmp_path, 2000)
    assert (tmp_path / audit_trail.HEAD).stat().st_size == length
    assert json.loads((tmp_path / audit_trail.HEAD).read_text())["seq"] == 2001


def test_a_removed_head_is_noticed(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    (tmp_path / audit_trail.HEAD).unlink()
    assert broken(tmp_path).details["file"] == "head.json"


@pytest.mark.parametrize("keep", [2, 0])
def test_a_shortened_trail_stays_broken_after_the_next_append(tmp_path: Path, keep: int) -> None:
    fill(tmp_path, 5)
    edit(tmp_path, lambda lines: lines[:keep])
    fill(tmp_path, 1)
    assert f"records {keep + 1} to 5 vanished" in str(broken(tmp_path))


def test_a_head_removed_together_with_the_end_stays_noticed_after_the_next_append(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    edit(tmp_path, lambda lines: lines[:3])
    (tmp_path / audit_trail.HEAD).unlink()
    fill(tmp_path, 1)
    assert "head file was gone" in str(broken(tmp_path))


def test_records_removed_under_a_running_writer_are_noticed_by_it(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    for _ in range(3):
        log.append_durably({"kind": "call"})
    for path in tmp_path.iterdir():
        path.unlink()
    log.append_durably({"kind": "call"})
    log.close()
    assert "records 1 to 3 vanished" in str(broken(tmp_path))


@pytest.mark.parametrize("torn", [b'{"kind":"call","du', b"\0" * 200, b"half\na line", b'{"kind":"call"}\n'])
def test_a_half_written_line_is_reported_and_the_next_append_explains_it(tmp_path: Path, torn: bytes) -> None:
    fill(tmp_path, 3)
    with only_file(tmp_path).open("ab") as f:
        f.write(torn)
    before = verify(tmp_path)
    assert (before.records, before.torn) == (3, ((only_file(tmp_path).name, 4, len(torn)),))
    fill(tmp_path, 2)
    after = verify(tmp_path)
    assert after.records == 6
    assert [place[:2] for place in after.torn] == [(only_file(tmp_path).name, 4)]
    notice = tail(tmp_path, 3)[0]
    assert (notice["kind"], notice["event"], notice["torn_bytes"]) == ("audit", "torn", len(torn))


def test_a_confirmed_record_that_becomes_torn_is_damage_not_a_crash(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    path = only_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    assert broken(tmp_path).details["line"] == 3
    fill(tmp_path, 1)
    assert "records 3 to 3 vanished" in str(broken(tmp_path))


def test_torn_bytes_that_were_changed_after_the_notice_are_an_edit(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    with only_file(tmp_path).open("ab") as f:
        f.write(b"half a line")
    fill(tmp_path, 1)
    edit(tmp_path, lambda lines: lines.__setitem__(1, b"tamed line!\n"))
    assert broken(tmp_path).details["line"] == 2


def test_the_chain_goes_on_across_days_and_a_clock_set_back_keeps_the_order(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    path = only_file(tmp_path)
    path.rename(tmp_path / "audit-20200101.jsonl")
    fill(tmp_path, 2)
    assert verify(tmp_path).files == 2
    only_today = audit_trail.files(tmp_path)[1]
    only_today.rename(tmp_path / "audit-99990101.jsonl")
    fill(tmp_path, 2)
    assert [f.name for f in audit_trail.files(tmp_path)] == ["audit-20200101.jsonl", "audit-99990101.jsonl"]
    assert verify(tmp_path).records == 6
    assert len(tail(tmp_path, 5)) == 5


def test_torn_ends_of_two_days_are_both_explained(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    only_file(tmp_path).rename(tmp_path / "audit-20200101.jsonl")
    for day in ("audit-20200101.jsonl", "audit-20200102.jsonl"):
        with (tmp_path / day).open("ab") as f:
            f.write(b"torn")
    assert len(verify(tmp_path).torn) == 2
    fill(tmp_path, 1)
    summary = verify(tmp_path)
    assert [place[0] for place in summary.torn] == ["audit-20200101.jsonl", "audit-20200102.jsonl"]


FAILING_DISK = """
import resource, signal, sys
from pathlib import Path
from harbourmaster.core.audit import AuditLog, AuditUnavailable, verify, tail

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
directory = Path(sys.argv[1])
log = AuditLog(directory)
log.append_durably({"kind": "call", "server": "before"})
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
log.append({"kind": "call", "server": "queued", "text": "x" * 1000})
try:
    log.flush()
    sys.exit("flush succeeded")
except AuditUnavailable as e:
    print(e.code)
for refused in (log.append, log.append_durably):
    try:
        refused({"kind": "call", "server": "refused"})
        sys.exit("append succeeded")
    except AuditUnavailable as e:
        print(e.code)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.flush()
log.append({"kind": "call", "server": "after"})
log.close()
print(verify(directory).records, [r["server"] for r in tail(directory, 9) if r["kind"] == "call"])
"""


def test_a_full_disk_stops_appends_until_a_retry_succeeds_and_loses_nothing(tmp_path: Path) -> None:
    worker = run(FAILING_DISK, str(tmp_path))
    out, err = worker.communicate()
    assert worker.returncode == 0, err
    assert out.split("\n")[:3] == ["audit.unavailable"] * 3
    assert out.split("\n")[3] == "3 ['before', 'queued', 'after']"


def test_closing_while_the_disk_is_full_says_how_many_records_are_lost(tmp_path: Path) -> None:
    code = FAILING_DISK.split("for refused")[0] + (
        "try:\n    log.close()\nexcept AuditUnavailable as e:\n    print('1 records were not written' in str(e))\n"
    )
    worker = run(code, str(tmp_path))
    out, err = worker.communicate()
    assert (worker.returncode, out.split()) == (0, ["audit.unavailable", "True"]), err


def test_a_full_queue_refuses_instead_of_growing(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, max_queue=10)
    other_process_writes = audit_trail.locked(tmp_path)
    with other_process_writes, pytest.raises(AuditUnavailable, match="wait to be written"):
        for _ in range(100_000):
            log.append({"kind": "call"})
    log.flush()
    log.append({"kind": "call"})
    log.close()
    assert verify(tmp_path).records == len(tail(tmp_path, 100_000))


def test_a_directory_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AuditUnavailable):
        AuditLog(tmp_path / "file" / "audit")


def test_a_killed_process_loses_no_flushed_record_and_leaves_a_chain_that_verifies(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from harbourmaster.core.audit import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1])); n = 0\n"
        "while True:\n"
        "    log.append({'kind': 'call', 'number': n}); n += 1\n"
        "    if n % 1000 == 0: log.flush(); print(n, flush=True)\n"
    )
    worker = run(code, str(tmp_path))
    assert worker.stdout is not None
    flushed = [int(worker.stdout.readline()) for _ in range(3)][-1]
    worker.kill()
    worker.communicate()
    fill(tmp_path, 1)
    numbers = [r["number"] for r in tail(tmp_path, 10**9) if "number" in r]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= flushed
    verify(tmp_path)


def test_an_empty_or_missing_trail_verifies_as_empty(tmp_path: Path) -> None:
    assert verify(tmp_path / "none").records == 0
    assert verify(tmp_path).records == 0


def test_verify_reads_while_another_process_appends(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            log.append({"kind": "call"})
            log.flush()

    worker = threading.Thread(target=work)
    worker.start()
    counts = [verify(tmp_path).records for _ in range(20)]
    done.set()
    worker.join()
    log.close()
    assert counts == sorted(counts)
    assert os.access(tmp_path, os.W_OK)
