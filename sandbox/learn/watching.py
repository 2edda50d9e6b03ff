"""What one learning run used of its sandbox: memory, processes, and where it wrote."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from sandbox import containers
from sandbox.engine import Engine, failures

PAUSE_S = 0.05  # between readings; shorter peaks of processes are missed, and what is proposed leaves room for that
MIB = 1024 * 1024
MAX_TEXT = 64 * 1024
# Made by the engine or kept in memory anyway
NOT_THEIRS = (
    "/dev", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf", "/proc", "/run/secrets", "/sbin/docker-init",
    "/sys", "/tmp", "/usr/sbin/docker-init",  # noqa: S108
)  # fmt: skip
ADDED, CHANGED = 1, 0  # GET /containers/{id}/changes, Docker Engine API 1.41 (2 is deleted)

# How Python, Node, Go and the C library name a file that they may not write
_REFUSED = (
    re.compile(r"(?:Permission denied|Read-only file system)\W{1,4}'(/[^'\n]{1,400})'"),
    re.compile(r"E(?:ACCES|ROFS|PERM):[^'\n]{1,80}'(/[^'\n]{1,400})'"),
    re.compile(r"(?:open|mkdir|create) (/[^\s:'\n]{1,400}): (?:permission denied|read-only file system)"),
)


@dataclass
class Use:
    """``written``: paths on the root file system; ``refused``: paths that it said it could not write."""

    memory_mb: float = 0.0
    pids: int = 0
    written: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)


class Watch:
    """``async with Watch(engine, container) as watch: ...``; then ``watch.use``."""

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine, self._container = engine, container
        self._task: asyncio.Task[None] | None = None
        self.use = Use()

    async def __aenter__(self) -> Watch:
        self._task = asyncio.get_running_loop().create_task(self._look_on())
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if exc[0] is None:
            await self._look()
            self.use.written |= written(await asyncio.to_thread(self._changes))

    async def _look_on(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(PAUSE_S)

    async def _look(self) -> None:
        with contextlib.suppress(Exception):  # it may have ended just now, which its session tells
            self.add(await asyncio.to_thread(containers.stats, self._engine, self._container))

    def add(self, stats: dict[str, Any]) -> None:
        """What it holds: without pages of files that the kernel can drop at any time."""
        memory, now = stats.get("memory_stats") or {}, stats.get("pids_stats") or {}
        details = memory.get("stats") or {}
        droppable = details.get("total_inactive_file", details.get("inactive_file", 0))
        self.use.memory_mb = max(self.use.memory_mb, (memory.get("usage", 0) - droppable) / MIB)
        self.use.pids = max(self.use.pids, now.get("current") or 0)

    def _changes(self) -> list[dict[str, Any]]:
        with failures("say which files changed"):
            return list(self._engine.api.diff(self._container) or ())


def written(changes: list[dict[str, Any]]) -> set[str]:
    """The folders in which something was made or changed, the outermost new one for each."""
    added = {str(c["Path"]) for c in changes if c["Kind"] == ADDED}
    folders = set()
    for change in changes:
        path = str(change["Path"])
        if change["Kind"] not in (ADDED, CHANGED) or _is_not_theirs(path):
            continue
        if change["Kind"] == CHANGED and any(str(other["Path"]).startswith(f"{path}/") for other in changes):
            continue  # a folder counts as changed for what is in it
        outermost = next((str(p) for p in reversed(PurePosixPath(path).parents) if str(p) in added), "")
        is_folder = any(other.startswith(f"{path}/") for other in added)
        folders.add(outermost or (path if is_folder else str(PurePosixPath(path).parent)))
    return {folder for folder in folders if folder != "/" and not _is_not_theirs(folder)}


def refused(text: str) -> set[str]:
    """The folders of files that an error text says could not be written."""
    found = {match[1] for pattern in _REFUSED for match in pattern.finditer(text[-MAX_TEXT:])}
    folders = {str(PurePosixPath(path).parent) for path in found if ".." not in path.split("/")}
    return {folder for folder in folders if folder != "/" and not _is_not_theirs(folder)}


def _is_not_theirs(path: str) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in NOT_THEIRS) or any(
        each.startswith(f"{path}/") for each in NOT_THEIRS
    )
