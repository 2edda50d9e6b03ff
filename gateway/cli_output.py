"""What the command modules share in printing: aligned columns, and text that a terminal cannot be fooled with."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

_KEPT = "\n\t"


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under ``header``, each column as wide as its widest cell; the last one as long as it is, or as a terminal has room."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    cells = [list(header), *(list(r) for r in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header) - 1)]
    lines = ("  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]) for row in cells)
    return "\n".join(_cut(line.rstrip(), width) for line in lines) + "\n"


def _cut(line: str, width: int) -> str:
    return line if not width or len(line) <= width else line[: width - 1].rstrip() + "…"


def short_path(path: str, home: Path) -> str:
    return f"~{path[len(str(home)) :]}" if path.startswith(f"{home}/") else path


def visible(text: str) -> str:
    """``text`` with control characters shown as ``\\x1b``: what a server says must not drive the person's terminal."""
    return "".join(c if c in _KEPT or unicodedata.category(c) not in ("Cc", "Cf") else _escaped(c) for c in text)


def one_line(text: str, limit: int = 100) -> str:
    """The first line of ``text``, cut to ``limit`` characters."""
    line = visible(text).strip().split("\n", 1)[0].strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
