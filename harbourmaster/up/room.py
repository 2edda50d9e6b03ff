"""Whether this machine has room: disk where images are kept, memory for what runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harbourmaster.core.settings import Settings
from harbourmaster.up.errors import NoRoom

# Twelve starter servers and their bases: 0.9 GB in HM_HOME, 1.3 GB in the engine; the local model's engine and file take the rest.
LOW_DISK_BYTES = 3 << 30
LEAST_DISK_BYTES = 512 << 20  # less than one base image and what is unpacked while it is made
LOW_MEMORY_BYTES = 1 << 30  # the three processes take half of it, one sandbox may take as much again

MEMINFO = Path("/proc/meminfo")
# What bounds a container that we run in ourselves: cgroup v2, then v1 (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst).
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)

if TYPE_CHECKING:
    from sandbox.engine import Engine

Say = Callable[[str], None]


@dataclass(frozen=True)
class Disk:
    """Free space for unprivileged users on the file system that holds ``use``."""

    use: str
    place: Path
    free: int

    @property
    def text(self) -> str:
        return f"{self.free / 1e9:.1f} GB free at {self.place}, for {self.use}"


def engine_root(engine: Engine) -> str:
    """Where the engine keeps its images, if that is on this machine; else empty."""
    return engine.info().root if engine.url.startswith("unix:") else ""


def disks(settings: Settings, engine_root: str = "") -> list[Disk]:
    """One for each file system: where HM_HOME lies, and where an engine on this machine keeps its images."""
    found: dict[int, Disk] = {}
    places = [("HM_HOME", settings.home)]
    if engine_root and Path(engine_root).exists():
        places.append(("the engine's images", Path(engine_root)))
    for use, wanted in places:
        place = next(p for p in (wanted, *wanted.parents) if p.exists())
        device = place.stat().st_dev
        use = f"{found[device].use} and {use}" if device in found else use
        found[device] = Disk(use, found[device].place if device in found else place, shutil.disk_usage(place).free)
    return list(found.values())


def free_memory(meminfo: Path = MEMINFO, cgroups: Iterable[tuple[Path, Path]] = CGROUPS) -> int:
    """Bytes that can be used without swapping (``MemAvailable``, proc(5)), or that our own cgroup leaves; 0: not known."""
    free = [int(line.split()[1]) << 10 for line in _lines(meminfo) if line.startswith("MemAvailable:")]
    for limit, used in cgroups:
        held, spent = _number(limit), _number(used)
        if held is not None and spent is not None:
            free.append(max(1, held - spent))
    return min(free, default=0)


def require_room(settings: Settings, engine_root: str, say: Say) -> None:
    """Say what is scarce before minutes of work.  Raises ``NoRoom`` where nothing is built yet and nothing can be."""
    for disk in disks(settings, engine_root):
        if disk.free < LEAST_DISK_BYTES and not settings.lock_file.exists():
            raise NoRoom(
                f"the disk is full: {disk.text}; the starter servers take about 2 GB",
                remedy=f"free some space at {disk.place}, or set HM_HOME to a larger disk, then run hm up again",
            )
        if disk.free < LOW_DISK_BYTES:
            say(f"the disk is nearly full: {disk.text}; the starter servers take about 2 GB")
    memory = free_memory()
    if 0 < memory < LOW_MEMORY_BYTES:
        say(
            f"memory is short: {memory / 1e9:.1f} GB are free; calls may wait for a place (pool_memory_mb bounds sandboxes)"
        )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    text = next(iter(_lines(path)), "")
    return int(text) if text.isdigit() else None
