"""Progress as a person wants it: bars when a terminal watches, else one line per event."""

from __future__ import annotations

import sys
import threading
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class ProgressView:
    """Call it as ``view(server, stage, fraction)``; fractions are 0..1, 1 means that server is done.  Thread-safe."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._stages: dict[str, str] = {}
        self._bars: Progress | None = None
        if self.console.is_terminal:
            self._bars = Progress(
                SpinnerColumn(finished_text="[green]✓"),
                TextColumn("{task.fields[server]:<20}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[stage]}", style="dim"),
                TimeElapsedColumn(),
                console=self.console,
            )

    def __enter__(self) -> ProgressView:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, server: str, stage: str, fraction: float) -> None:
        with self._lock:
            if self._bars is None:
                self._line(server, stage)
            else:
                self._bar(self._bars, server, stage, fraction)

    def _line(self, server: str, stage: str) -> None:
        if self._stages.get(server) != stage:
            self._stages[server] = stage
            sys.stderr.write(f"  {server}: {stage}\n")

    def _bar(self, bars: Progress, server: str, stage: str, fraction: float) -> None:
        if server not in self._tasks:
            self._tasks[server] = bars.add_task("", total=1.0, server=server, stage=stage)
        bars.update(self._tasks[server], completed=min(fraction, 1.0), stage=stage)
