"""Which limit a server ran into, told from how it ended, what it said and what the engine counted."""

from __future__ import annotations

import pytest

from sandbox import strain
from sandbox.errors import LimitReached

LIMITS = {"memory_mb": 96, "cpus": 0.5, "pids": 32, "nofile": 128, "file_mb": 8, "tmp_mb": 16}

SAID = {
    "OSError: [Errno 28] No space left on device: '/tmp/x'": "sandbox.tmp_full",
    "Error: ENOSPC: no space left on device, write": "sandbox.tmp_full",
    "sqlite3.OperationalError: database or disk is full": "sandbox.tmp_full",
    "RuntimeError: can't start new thread": "sandbox.pids",
    "sh: 1: fork: retry: Resource temporarily unavailable": "sandbox.pids",
    "Error: spawn git EAGAIN": "sandbox.pids",
    "BlockingIOError: [Errno 11] Resource temporarily unavailable": "sandbox.pids",
    "OSError: [Errno 24] Too many open files": "sandbox.open_files",
    "Error: EMFILE: too many open files, open 'x'": "sandbox.open_files",
    "OSError: [Errno 27] File too large": "sandbox.file_size",
    "MemoryError": "sandbox.memory",
    "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory": "sandbox.memory",
}


@pytest.mark.parametrize("text", SAID)
def test_the_words_of_a_kernel_s_error_name_the_limit(text: str) -> None:
    limit = strain.named_in(f"Traceback:\n  {text}\n", "files", LIMITS)
    assert limit is not None
    assert limit.code == SAID[text]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no such file",
        "socket: Resource temporarily unavailable",
        "I have a good memory",
        "open files: 3",
        "PermissionError: [Errno 13]",
    ],
)
def test_other_words_name_none(text: str) -> None:
    assert strain.named_in(text, "files", LIMITS) is None


def test_of_several_the_last_counts() -> None:
    limit = strain.named_in("OSError: Too many open files\nlater\nOSError: No space left on device", "files", LIMITS)
    assert limit is not None
    assert limit.code == "sandbox.tmp_full"


@pytest.mark.parametrize("name", [s.limit for s in strain.STRAINS])
def test_the_error_says_the_limit_its_value_and_the_entry_s_field(name: str) -> None:
    error: LimitReached = strain.reached(name, "files", LIMITS)
    assert error.message.startswith("files ")
    assert f"{LIMITS[name]:g}" in error.message
    assert f"run.sandbox.{name}" in error.remedy
    assert error.details == {"limit": name, "value": LIMITS[name], "field": f"run.sandbox.{name}"}


def test_codes_are_distinct() -> None:
    assert len({s.error.code for s in strain.STRAINS}) == len(strain.STRAINS)


@pytest.mark.parametrize(
    ("status", "oom", "stderr", "code"),
    [
        (137, True, "", "sandbox.memory"),
        (137, True, "No space left on device", "sandbox.memory"),
        (128 + 25, False, "", "sandbox.file_size"),
        (1, False, "OSError: [Errno 28] No space left on device", "sandbox.tmp_full"),
        (134, False, "JavaScript heap out of memory", "sandbox.memory"),
    ],
)
def test_the_limit_that_ended_a_server_is_known(status: int, oom: bool, stderr: str, code: str) -> None:
    limit = strain.of_exit(status, oom, stderr, "files", LIMITS)
    assert limit is not None
    assert limit.code == code


@pytest.mark.parametrize(
    ("status", "stderr"),
    [(0, "No space left on device"), (1, "ValueError: bad"), (139, ""), (None, "No space left on device")],
)
def test_an_end_for_another_reason_names_no_limit(status: int | None, stderr: str) -> None:
    assert strain.of_exit(status, False, stderr, "files", LIMITS) is None


def counters(periods: int, held: int, held_s: float) -> dict[str, object]:
    return {
        "cpu_stats": {
            "throttling_data": {"periods": periods, "throttled_periods": held, "throttled_time": int(held_s * 1e9)}
        }
    }


@pytest.mark.parametrize(
    ("periods", "held", "held_s", "starved"),
    [(100, 90, 8.0, True), (100, 10, 8.0, False), (10, 9, 0.4, False), (0, 0, 0.0, False)],
)
def test_a_server_is_starved_when_most_periods_held_it_back_for_long(
    periods: int, held: int, held_s: float, starved: bool
) -> None:
    limit = strain.of_stats(counters(periods, held, held_s), 30.0, "files", LIMITS)
    assert (limit is not None) == starved
    assert limit is None or limit.code == "sandbox.cpu"


@pytest.mark.parametrize("stats", [{}, {"cpu_stats": None}, {"cpu_stats": {"throttling_data": None}}])
def test_an_engine_without_counters_says_nothing(stats: dict[str, object]) -> None:
    assert strain.of_stats(stats, 30.0, "files", LIMITS) is None
