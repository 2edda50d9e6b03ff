"""Which limit of its sandbox a server ran into, and the entry's field that raises it.  Pure.

The kernel tells the server, not us: memory and file size show in how it ended, CPU in the engine's counters, and the rest
only in the words of an error that the server passed on.  Those words are a hint for people; nothing is decided by them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.errors import CpuStarved, FilesLimit, FileTooLarge, LimitReached, MemoryLimit, PidsLimit, TmpFull

XFSZ = 128 + 25  # ended by SIGXFSZ (signal(7)): a write went past the largest file
READ_CHARS = 64 * 1024  # of an error's text: as much as is kept of stderr
HELD_BACK = 0.5  # share of scheduling periods in which the server was stopped by its CPU limit: most of them
HELD_BACK_OF_WAIT = 0.1  # and for at least this share of the wait; a start alone holds a server back for a second

Limits = Mapping[str, int | float | bool]


@dataclass(frozen=True)
class Strain:
    """``said``: how C libraries, Python, Node, Go and Rust word the kernel's error."""

    error: type[LimitReached]
    limit: str
    what: str
    said: str = ""


STRAINS = (
    Strain(
        MemoryLimit,
        "memory_mb",
        "ran out of memory: its sandbox has {value:g} MB",
        r"Cannot allocate memory|\bENOMEM\b|\bMemoryError\b|heap out of memory|std::bad_alloc|memory allocation of \d+ bytes failed",
    ),
    Strain(
        PidsLimit,
        "pids",
        "could not start another process or thread: its sandbox allows {value:g}",
        r"can't start new thread|fork: .*Resource temporarily unavailable|\bspawn\S* .*EAGAIN|pthread_create.*(failed|EAGAIN)"
        r"|uv_thread_create|BlockingIOError: \[Errno 11\]|failed to create new OS thread|unable to create native thread",
    ),
    Strain(
        TmpFull,
        "tmp_mb",
        "filled what it may write to: its sandbox has {value:g} MB in /tmp",
        r"No space left on device|\bENOSPC\b|[Nn]o space left|database or disk is full",
    ),
    Strain(
        FileTooLarge,
        "file_mb",
        "reached the largest file its sandbox allows, {value:g} MB",
        r"File too large|\bEFBIG\b|File size limit exceeded",
    ),
    Strain(
        FilesLimit,
        "nofile",
        "has as many files open as its sandbox allows, {value:g}",
        r"Too many open files|\bEMFILE\b|[Tt]oo many open files",
    ),
    Strain(CpuStarved, "cpus", "was held back by its sandbox's {value:g} CPUs"),
)
_BY_LIMIT = {strain.limit: strain for strain in STRAINS}
_SAID = tuple((strain, re.compile(strain.said)) for strain in STRAINS if strain.said)


def reached(limit: str, server: str, limits: Limits) -> LimitReached:
    """The error for a limit by its name in the profile."""
    strain, value = _BY_LIMIT[limit], limits[limit]
    field = f"run.sandbox.{limit}"
    return strain.error(
        f"{server} {strain.what.format(value=value)}",
        remedy=f"ask for less at once, or raise {field} in its entry",
        limit=limit,
        value=value,
        field=field,
    )


def named_in(text: str, server: str, limits: Limits) -> LimitReached | None:
    """The limit whose error ``text`` speaks of; the last one, where there are several."""
    text = text[-READ_CHARS:]
    found = [(match.start(), strain) for strain, said in _SAID for match in said.finditer(text)]
    return reached(max(found, key=lambda f: f[0])[1].limit, server, limits) if found else None


def of_exit(status: int | None, oom: bool, stderr: str, server: str, limits: Limits) -> LimitReached | None:
    """The limit that ended a server, None when it ended for another reason."""
    if oom:
        return reached("memory_mb", server, limits)
    if status == XFSZ:
        return reached("file_mb", server, limits)
    return named_in(stderr, server, limits) if status else None


def of_stats(stats: Mapping[str, Any], waited_s: float, server: str, limits: Limits) -> LimitReached | None:
    """CPU starvation, from the engine's counters (Docker Engine API 1.41, ContainerStats, ``throttling_data``)."""
    counters = (stats.get("cpu_stats") or {}).get("throttling_data") or {}
    periods, held = counters.get("periods") or 0, counters.get("throttled_periods") or 0
    held_s = (counters.get("throttled_time") or 0) / 1e9
    if periods and held / periods >= HELD_BACK and held_s >= HELD_BACK_OF_WAIT * waited_s:
        return reached("cpus", server, limits)
    return None
