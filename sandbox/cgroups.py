"""What the kernel counts of one process's control group, in the engine's own form (Docker Engine API 1.41, ContainerStats).

For a sandbox that joined a relay: Docker looks for network counters there, finds none, and then leaves out all others too
(daemon.GetContainerStats, 20.10).  Control groups v1 and v2 (Documentation/admin-guide/cgroup-v1, cgroup-v2.rst) may be read
by anyone on the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")


def stats_of(pid: int, *, proc: Path = PROC, root: Path = CGROUPS) -> dict[str, Any]:
    """Empty where its control group is not to be seen from here."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
        found = [line.split(":", 2) for line in lines]
        places = {name: path.lstrip("/") for _, names, path in found for name in names.split(",")}
        return _first(root, places) if "memory" in places else _second(root / places[""])
    except (OSError, ValueError, KeyError):
        return {}


def _first(root: Path, places: dict[str, str]) -> dict[str, Any]:
    memory, pids, cpu, account = (root / name / places[name] for name in ("memory", "pids", "cpu", "cpuacct"))
    held = _table(cpu / "cpu.stat")
    return _stats(
        _number(memory / "memory.usage_in_bytes"),
        _number(memory / "memory.limit_in_bytes"),
        _table(memory / "memory.stat"),
        _number(pids / "pids.current"),
        _number(account / "cpuacct.usage"),
        {
            "periods": held["nr_periods"],
            "throttled_periods": held["nr_throttled"],
            "throttled_time": held["throttled_time"],
        },
    )


def _second(group: Path) -> dict[str, Any]:
    cpu = _table(group / "cpu.stat")
    held = {"periods": cpu.get("nr_periods", 0), "throttled_periods": cpu.get("nr_throttled", 0)}
    return _stats(
        _number(group / "memory.current"),
        _number(group / "memory.max"),
        _table(group / "memory.stat"),
        _number(group / "pids.current"),
        cpu.get("usage_usec", 0) * 1000,
        held | {"throttled_time": cpu.get("throttled_usec", 0) * 1000},
    )


def _stats(
    usage: int, limit: int, details: dict[str, int], pids: int, cpu_ns: int, held: dict[str, int]
) -> dict[str, Any]:
    return {
        "memory_stats": {"usage": usage, "limit": limit, "stats": details},
        "pids_stats": {"current": pids},
        "cpu_stats": {"cpu_usage": {"total_usage": cpu_ns}, "throttling_data": held},
    }


def _number(path: Path) -> int:
    text = path.read_text().strip()
    return 0 if text == "max" else int(text)


def _table(path: Path) -> dict[str, int]:
    return {name: int(value) for name, _, value in (line.partition(" ") for line in path.read_text().splitlines())}
