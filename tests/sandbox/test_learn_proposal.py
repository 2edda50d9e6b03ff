"""From what a run used to a patch of the entry: nothing needed is dropped, nothing else of the file is touched."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harbourmaster.core.settings import PROJECT_ROOT
from registry.schema import parse_entry
from sandbox.learn.errors import NotReplayed, RecordingInvalid
from sandbox.learn.proposal import Findings, patch, patched, propose
from sandbox.learn.recording import Exchange, Raw, Recording
from sandbox.learn.watching import refused, written

ENTRIES = sorted((PROJECT_ROOT / "registry" / "servers").glob("*/server.yaml"))
NONE = Findings((), (), (), 40.0, 6, 2)


def test_what_was_used_is_proposed_with_room_and_in_round_numbers() -> None:
    found = propose(
        Findings(("a.test:443", "b.test:80"), ("b.test:80",), ("/var/x", "/var/x/y", "/data"), 81.0, 21, 3), {}
    )
    assert (found.hosts, found.private) == (("a.test:443", "b.test:80"), ("b.test:80",))
    assert (found.writable, found.memory_mb, found.pids) == (("/data", "/var/x"), 128, 32)
    assert found.reason == "learnt from 3 calls: at most 81 MB and 21 processes and threads"


def test_rules_of_the_entry_stay_and_cover_what_they_cover() -> None:
    listed = {"hosts": ["*.wild.test:443", "other.test:25", "db.test:5432"], "private": ["db.test:5432"]}
    found = propose(Findings(("a.wild.test:443", "a.wild.test:80", "db.test:5432"), (), (), 1, 1, 1), listed)
    assert found.hosts == ("*.wild.test:443", "other.test:25", "db.test:5432", "a.wild.test:80")
    assert (found.private, found.unused) == (("db.test:5432",), ("other.test:25",))
    least = propose(Findings(("a.wild.test:443",), (), (), 1, 1, 1), listed, drop_unused=True)
    assert (least.hosts, least.private) == (("*.wild.test:443",), ())


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.parent.name)
def test_of_every_starter_s_entry_only_the_proposal_changes(path: Path, tmp_path: Path) -> None:
    before = path.read_text()
    wanted = Findings(("extra.test:443",), (), ("/cache",), 40.0, 6, 2)
    proposal = propose(wanted, parse_entry(path, before.encode()).run.network.model_dump())
    after = patched(before, proposal)
    entry = parse_entry(path, after.encode())
    assert "extra.test:443" in entry.run.network.hosts
    assert (entry.limits()["memory_mb"], entry.limits()["pids"], entry.access().writable) == (64, 16, ("/cache",))
    lines = patch("server.yaml", before, after).splitlines()
    assert [line for line in lines if line.startswith("-") and not line.startswith(("---", "-    hosts:"))] == []
    copy = tmp_path / "server.yaml"
    copy.write_text(before)
    diff = patch(str(copy), before, after)
    subprocess.run(["patch", "-p0", "-s", str(copy)], input=diff.encode(), check=True)
    assert copy.read_text() == after
    assert patched(after, proposal) == after, "applied twice, it changes nothing"


def test_a_folder_that_is_writable_already_is_not_asked_for_again() -> None:
    path = ENTRIES[0]
    first = patched(path.read_text(), propose(Findings((), (), ("/cache",), 1, 1, 1), {}))
    second = patched(first, propose(Findings((), (), ("/cache", "/more"), 1, 1, 1), {}))
    assert parse_entry(path, second.encode()).access().writable == ("/cache", "/more")


@pytest.mark.parametrize(
    ("changes", "folders"),
    [
        ([("/tmp", 0), ("/tmp/x", 1), ("/etc", 0), ("/etc/hosts", 1), ("/usr/sbin/docker-init", 1), ("/usr", 0)], set()),
        ([("/var", 0), ("/var/lib", 0), ("/var/lib/x", 1), ("/var/lib/x/a", 1), ("/var/lib/x/a/f", 1)], {"/var/lib/x"}),
        ([("/srv", 0), ("/srv/log", 0)], {"/srv"}),
        ([("/srv", 0), ("/srv/new.txt", 1)], {"/srv"}),
        ([("/srv", 0), ("/srv/gone", 2)], set()),
    ],
)  # fmt: skip
def test_where_it_wrote_is_told_from_what_the_engine_made(changes: list[tuple[str, int]], folders: set[str]) -> None:
    assert written([{"Path": path, "Kind": kind} for path, kind in changes]) == folders


def test_what_it_said_it_could_not_write_is_found_in_its_words() -> None:
    said = """PermissionError: [Errno 13] Permission denied: '/var/cache/app/index.db'
Error: EACCES: permission denied, open '/opt/data/log.txt'
OSError: [Errno 30] Read-only file system: '/srv/x'
panic: open /var/lib/tool/state: read-only file system
Permission denied: '/tmp/fine'  Permission denied: '/a/../etc/x'"""
    assert refused(said) == {"/var/cache/app", "/opt/data", "/srv", "/var/lib/tool"}


# -- recordings


RECORDING = Recording(
    (
        Exchange("api.test", 443, "GET", "/a?x=1", 200, (("Content-Type", "text/plain"),), b"one"),
        Exchange("api.test", 443, "GET", "/a?x=2", 200, (), b"two"),
        Exchange("api.test", 443, "POST", "/b", 201, (), b"\xff\x00"),
    ),
    (Raw("db.test", 5432, ((True, b"hello"), (False, b"user"), (True, b"\x00\xfe"))),),
)


def test_a_recording_is_read_as_it_was_written() -> None:
    assert Recording.parse(RECORDING.dump()) == RECORDING


def test_the_nearest_recorded_answer_is_given_and_no_other_hosts() -> None:
    assert RECORDING.answer("api.test", 443, "GET", "/a?x=2").body == b"two"
    assert RECORDING.answer("api.test", 443, "GET", "/a?x=9").body == b"one"
    for host, port, method, target in (
        ("api.test", 443, "GET", "/b"),
        ("api.test", 80, "GET", "/a"),
        ("b.test", 443, "GET", "/a"),
    ):
        with pytest.raises(NotReplayed):
            RECORDING.answer(host, port, method, target)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"version": 2}', b'{"version": 1, "http": [{}]}', b'{"version": 1, "raw": [{"host": "x", "port": 1, "steps": [{"from": "me"}]}]}', b'{"version": 1, "http": [{"host": "x", "port": 1, "base64": "?"}]}']
)  # fmt: skip
def test_what_is_no_recording_is_refused(data: bytes) -> None:
    with pytest.raises(RecordingInvalid):
        Recording.parse(data)
