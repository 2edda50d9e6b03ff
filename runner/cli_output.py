"""Tables and JSON for ``hm model``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from runner.store.config import human_bytes
from runner.store.store import SHORT_ID, Model

WIDE = 240  # columns where no terminal says how wide it is


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: list[list[str]], empty: str, spare: Sequence[str] = ()) -> None:
    """``spare``: columns to leave out, in that order, until the rest fits the terminal."""
    if not rows:
        sys.stderr.write(f"{empty}\n")
        return
    width = Console().width if sys.stdout.isatty() else WIDE
    columns, rows = fitting(columns, rows, spare, width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=width).print(table)


def fitting(
    columns: Sequence[str], rows: list[list[str]], spare: Sequence[str], width: int
) -> tuple[list[str], list[list[str]]]:
    """The table without as many of the ``spare`` columns as it takes to fit ``width``."""
    kept = list(range(len(columns)))
    for name in spare:
        if sum(max(len(row[n]) for row in [list(columns), *rows]) + 1 for n in kept) <= width:
            break
        kept.remove(list(columns).index(name))
    return [columns[n] for n in kept], [[row[n] for n in kept] for row in rows]


def model_rows(models: list[Model], context_of: Any) -> list[list[str]]:
    return [
        [
            tag,
            m.config.parameters,
            m.config.quantization,
            m.config.architecture,
            m.id[7 : 7 + SHORT_ID],
            age(m.created_epoch()),
            str(context_of(m)),
            human_bytes(m.size),
        ]
        for m in models
        for tag in m.tags
    ]


def age(epoch: int) -> str:
    """``3 days ago``, as Docker's listings say it."""
    seconds = max(int(time.time()) - epoch, 0)
    for name, size in (("year", 31_536_000), ("month", 2_592_000), ("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = seconds // size
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "now"


def until(entry: dict[str, Any]) -> str:
    if entry["loading"]:
        return "Loading..."
    if entry["keep_alive"] == "forever" or entry["pinned"]:
        return "Forever"
    if entry["in_use"]:
        return "In use"
    left = float(entry["keep_alive"].rstrip("s")) - entry["idle_seconds"]
    return f"{max(left, 0):.0f} s from now" if left < 120 else f"{left / 60:.0f} minutes from now"
