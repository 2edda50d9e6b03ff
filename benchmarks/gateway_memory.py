"""Resident memory of the gateway under load, sample by sample, so that a reader sees whether it grows."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway_sides import Side, status

FEWEST = 6  # samples, however short the run


@dataclass(frozen=True)
class Sample:
    minute: float
    calls: int
    gateway_mb: float
    audit_mb: float


def report(side: Side, minutes: float, load: Callable[[int], int]) -> None:
    """``load``: puts load on for so many seconds, and says how many calls that were."""
    pid, began = status(side)["gateway"]["pid"], time.monotonic()
    count = max(FEWEST, round(minutes))
    samples: list[Sample] = []
    for _ in range(count):
        calls = load(max(1, round(minutes * 60 / count))) + (samples[-1].calls if samples else 0)
        minute = (time.monotonic() - began) / 60
        samples.append(Sample(minute, calls, resident_mb(pid), sum(map(resident_mb, children(pid)))))
    show(samples)


def show(samples: list[Sample]) -> None:
    print("\n| minutes under load | calls | gateway MB | its audit writer MB |")
    print("|---|---|---|---|")
    for each in samples:
        print(f"| {each.minute:.1f} | {each.calls:,} | {each.gateway_mb:.1f} | {each.audit_mb:.1f} |")
    half = samples[len(samples) // 2 :]
    print(
        f"\nGrowth over the second half: gateway {growth_kb(half, 'gateway_mb'):+.0f} KB, "
        f"audit writer {growth_kb(half, 'audit_mb'):+.0f} KB per 100,000 calls (least squares)."
    )


def growth_kb(samples: list[Sample], part: str) -> float:
    if len(samples) < 2:
        return 0.0
    slope = statistics.linear_regression([x.calls for x in samples], [getattr(x, part) for x in samples]).slope
    return float(slope) * 1024 * 100_000


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def children(pid: int) -> list[int]:
    """Processes that ``pid`` started: its audit writer."""
    return [int(p) for task in Path(f"/proc/{pid}/task").iterdir() for p in (task / "children").read_text().split()]
