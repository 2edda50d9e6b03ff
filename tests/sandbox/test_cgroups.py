"""The kernel's counters in the engine's form, for both versions of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.cgroups import stats_of


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


FIRST = {
    "proc/7/cgroup": "9:name=systemd:/docker/x\n5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n2:pids:/docker/x\n0::/system\n",
    "sys/memory/docker/x/memory.usage_in_bytes": "5000\n",
    "sys/memory/docker/x/memory.limit_in_bytes": "9000\n",
    "sys/memory/docker/x/memory.stat": "cache 100\ntotal_inactive_file 60\n",
    "sys/pids/docker/x/pids.current": "3\n",
    "sys/cpuacct/docker/x/cpuacct.usage": "1500000000\n",
    "sys/cpu/docker/x/cpu.stat": "nr_periods 10\nnr_throttled 6\nthrottled_time 2000000000\n",
}
SECOND = {
    "proc/7/cgroup": "0::/system.slice/docker-x.scope\n",
    "sys/system.slice/docker-x.scope/memory.current": "5000\n",
    "sys/system.slice/docker-x.scope/memory.max": "9000\n",
    "sys/system.slice/docker-x.scope/memory.stat": "anon 100\ninactive_file 60\n",
    "sys/system.slice/docker-x.scope/pids.current": "3\n",
    "sys/system.slice/docker-x.scope/cpu.stat": "usage_usec 1500000\nnr_periods 10\nnr_throttled 6\nthrottled_usec 2000000\n",
}


@pytest.mark.parametrize("files", [FIRST, SECOND], ids=["v1", "v2"])
def test_both_versions_say_the_same(files: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path, files)
    stats = stats_of(7, proc=tmp_path / "proc", root=tmp_path / "sys")
    memory = stats["memory_stats"]
    assert (memory["usage"], memory["limit"]) == (5000, 9000)
    assert 60 in memory["stats"].values()
    assert stats["pids_stats"]["current"] == 3
    assert stats["cpu_stats"]["cpu_usage"]["total_usage"] == 1_500_000_000
    held = stats["cpu_stats"]["throttling_data"]
    assert held == {"periods": 10, "throttled_periods": 6, "throttled_time": 2_000_000_000}


def test_no_limit_is_none(tmp_path: Path) -> None:
    write(tmp_path, SECOND | {"sys/system.slice/docker-x.scope/memory.max": "max\n"})
    assert stats_of(7, proc=tmp_path / "proc", root=tmp_path / "sys")["memory_stats"]["limit"] == 0


@pytest.mark.parametrize("missing", ["proc/7/cgroup", "sys/pids/docker/x/pids.current"])
def test_what_is_not_to_be_seen_from_here_is_nothing_and_no_error(missing: str, tmp_path: Path) -> None:
    write(tmp_path, {name: text for name, text in FIRST.items() if name != missing})
    assert stats_of(7, proc=tmp_path / "proc", root=tmp_path / "sys") == {}
