"""Progress of many things on stderr: bars when a terminal watches, else one line for each stage."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from registry.build.bases import Progress as Report
from registry.build.bases import silent

WAITING = "waiting"
FAILED = "failed"
_NAME, _BAR, _REST = 20, 24, 28  # columns of a name, a bar, and of what must stay legible beside them
_LEAST = 6  # columns; a shorter bar says nothing, and its place goes to the words


@contextlib.contextmanager
def progress_view(*, quiet: bool = False, console: Console | None = None) -> Iterator[Report]:
    """Call what it gives as ``view(server, stage, fraction)``; 1 means that this one is done.  Thread-safe."""
    console = console or Console(stderr=True)
    if quiet:
        yield silent
    elif console.is_terminal:
        with _Bars(console) as bars:
            yield bars
    else:
        yield _Lines()


class _Lines:
    """A stage is told once, however often it is reported."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, str] = {}

    def __call__(self, server: str, stage: str, fraction: float) -> None:
        with self._lock:
            if self._stages.get(server) != stage:
                self._stages[server] = stage
                sys.stderr.write(f"  {server}: {stage}\n")


class _Mark(SpinnerColumn):
    def render(self, task: Task) -> Text:
        if not task.finished:
            found = super().render(task)
            return found if isinstance(found, Text) else Text(str(found))
        failed = str(task.fields["stage"]).startswith(FAILED)
        return Text("✗", style="red") if failed else Text("✓", style="green")


class _Bars:
    def __init__(self, console: Console) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._stages: dict[str, str] = {}
        stage = TextColumn("{task.fields[stage]}", style="dim", markup=False)
        bar = min(_BAR, console.width - _NAME - _REST)
        if bar >= _LEAST:
            name = TextColumn(f"{{task.fields[server]:<{_NAME}}}")
            self._bars = Progress(_Mark(), name, BarColumn(bar_width=bar), stage, TimeElapsedColumn(), console=console)
        else:
            self._bars = Progress(_Mark(), TextColumn("{task.fields[server]}"), stage, console=console)

    def __enter__(self) -> _Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, server: str, stage: str, fraction: float) -> None:
        with self._lock:
            if server not in self._tasks:
                self._tasks[server] = self._bars.add_task("", total=1.0, server=server, stage=stage)
            done = max(0.0, min(fraction, 1.0))
            if self._stages.get(server) == WAITING and stage != WAITING:
                self._bars.reset(self._tasks[server], completed=0)  # the time in the queue is no time of work
            self._stages[server] = stage
            self._bars.update(self._tasks[server], completed=done, stage=stage)
