"""A lock pins everything with hashes, names no index, and is the one that the entry means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harbourmaster.core.settings import PROJECT_ROOT
from registry.build.errors import LockMissing
from registry.locks import NODE_LOCK, PYTHON_LOCK, check, parse_package_lock, parse_requirements, pinned, read_locks
from registry.schema import Entry, load_entries, load_entry

SERVERS = PROJECT_ROOT / "registry" / "servers"
HASH = "a" * 64
INTEGRITY = "sha512-" + "A" * 86 + "=="


@pytest.fixture
def time_entry() -> Entry:
    return load_entry(SERVERS / "time")


def test_every_starter_server_is_pinned_with_hashes() -> None:
    for entry in load_entries(SERVERS):
        packages = pinned(entry, read_locks(entry, SERVERS / entry.name))

        assert len(packages) > 5
        assert all(package.hashes for package in packages)


def test_no_lock_names_a_host() -> None:
    for path in SERVERS.glob("*/*"):
        if path.name == NODE_LOCK:
            assert '"resolved"' not in path.read_text()
        elif path.name == PYTHON_LOCK:
            assert "://" not in path.read_text()


def test_a_requirement_without_a_hash_is_refused() -> None:
    with pytest.raises(ValueError, match="no hash"):
        parse_requirements("ahoy==1.0\n")


@pytest.mark.parametrize(
    "line",
    [
        "ahoy>=1.0",
        "ahoy @ https://example.com/ahoy.whl",
        "-e .",
        "--index-url https://example.com",
        "-r other.txt",
        f"ahoy==1.0 --hash=md5:{HASH[:32]}",
        "https://example.com/ahoy.whl",
    ],
)
def test_lines_that_are_not_pins_are_refused(line: str) -> None:
    with pytest.raises(ValueError):
        parse_requirements(f"{line}\n")


@pytest.mark.parametrize(
    "package",
    [
        {"version": "1.0.0"},
        {"version": "1.0.0", "integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="},
        {"version": "1.0.0", "integrity": INTEGRITY, "link": True},
    ],
)
def test_npm_packages_without_a_strong_hash_are_refused(package: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="integrity"):
        parse_package_lock(json.dumps({"packages": {"": {}, "node_modules/ahoy": package}}).encode())


def test_bundled_packages_are_covered_by_their_parents_hash() -> None:
    packages = {
        "node_modules/a": {"version": "1", "integrity": INTEGRITY},
        "node_modules/a/node_modules/b": {"inBundle": True},
    }

    assert [p.name for p in parse_package_lock(json.dumps({"packages": packages}).encode())] == ["a"]


def test_npm_scopes_become_purl_name_spaces() -> None:
    packages = {"node_modules/@ship/wheel": {"version": "1.0.0", "integrity": INTEGRITY}}

    (package,) = parse_package_lock(json.dumps({"packages": packages}).encode())

    assert package.purl == "pkg:npm/%40ship/wheel@1.0.0"
    assert package.digest == ("sha512", "00" * 64)


def test_a_lock_of_another_version_is_refused(time_entry: Entry) -> None:
    lock = f"mcp-server-time==2020.1.1 \\\n    --hash=sha256:{HASH}\n"

    with pytest.raises(LockMissing, match="not what"):
        check(time_entry, {PYTHON_LOCK: lock.encode()})


def test_a_lock_with_another_files_hash_is_refused(time_entry: Entry) -> None:
    lock = f"mcp-server-time=={time_entry.source.version} \\\n    --hash=sha256:{HASH}\n"

    with pytest.raises(LockMissing) as caught:
        check(time_entry, {PYTHON_LOCK: lock.encode()})

    assert caught.value.remedy == "run: hm registry lock time"


def test_a_lock_without_the_server_itself_is_refused(time_entry: Entry) -> None:
    with pytest.raises(LockMissing, match="does not name"):
        check(time_entry, {PYTHON_LOCK: f"pydantic==2.0 \\\n    --hash=sha256:{HASH}\n".encode()})


def test_an_entry_without_a_lock_is_refused(time_entry: Entry, tmp_path: Path) -> None:
    with pytest.raises(LockMissing, match=r"requirements\.lock"):
        read_locks(time_entry, tmp_path)
