"""Layers coming in: bars when a terminal watches, else one line for each finished layer."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from runner.store.config import human_bytes
from runner.store.transfer import Progress as Report


@contextlib.contextmanager
def pull_progress() -> Iterator[Report]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(digest: str, current: int, total: int) -> None:
            if digest not in tasks:
                tasks[digest] = bars.add_task(digest[7:19], total=total)
            bars.update(tasks[digest], completed=current)

        yield report


def _line(digest: str, current: int, total: int) -> None:
    if current == total:
        sys.stderr.write(f"{digest[7:19]}: {human_bytes(total)}\n")
