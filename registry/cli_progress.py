"""Build progress on stderr: bars when a terminal watches, else one line for each stage."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from registry.build.bases import Progress as Report
from registry.build.bases import silent


@contextlib.contextmanager
def progress_view(*, quiet: bool = False) -> Iterator[Report]:
    console = Console(stderr=True)
    if quiet:
        yield silent
    elif console.is_terminal:
        with _Bars(console) as bars:
            yield bars
    else:
        yield _line


def _line(server: str, stage: str, fraction: float) -> None:
    sys.stderr.write(f"{server}: {stage}\n")


class _Bars:
    def __init__(self, console: Console) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.fields[server]:<20}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[stage]}", style="dim"),
            TimeElapsedColumn(),
            console=console,
        )

    def __enter__(self) -> _Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, server: str, stage: str, fraction: float) -> None:
        with self._lock:
            if server not in self._tasks:
                self._tasks[server] = self._bars.add_task("", total=1.0, server=server, stage=stage)
            self._bars.update(self._tasks[server], completed=max(0.0, min(fraction, 1.0)), stage=stage)
