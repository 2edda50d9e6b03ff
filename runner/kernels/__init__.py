"""What Harbourmaster changes in llama.cpp before it compiles it: faster matrices, and attention that gives a row the same
numbers whatever is computed beside it.

``*.h`` are new files beside ggml's own, ``*.patch`` the places that use them.  docs/adr/0008-kernels.md has the reasons
and the figures.  Only the pinned source (``runner/requirements.lock``) is ever changed: a hunk has to be found exactly
once, or nothing is compiled.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harbourmaster.core.errors import UnavailableError

HERE = Path(__file__).parent
MARK = "harbourmaster-kernels"  # a file beside the compiled libraries: what they were compiled with


class KernelsDoNotFit(UnavailableError):
    code = "runner.kernels_do_not_fit"


@dataclass(frozen=True)
class Change:
    """One hunk: ``old`` stands once in ``file`` (relative to llama.cpp) and becomes ``new``."""

    file: str
    old: str
    new: str


def fingerprint() -> str:
    """Of everything here that is compiled."""
    names = sorted(p for p in HERE.iterdir() if p.suffix in (".h", ".patch"))
    return hashlib.sha256(b"".join(p.name.encode() + b"\0" + p.read_bytes() for p in names)).hexdigest()


def change(llama_cpp: Path) -> None:
    """Put the kernels into the sources of llama.cpp.  Raises ``KernelsDoNotFit`` before anything is written."""
    changed: dict[Path, str] = {}
    for patch in sorted(HERE.glob("*.patch")):
        for hunk in changes(patch.read_text()):
            path = llama_cpp / hunk.file
            if path not in changed:
                changed[path] = path.read_text(encoding="utf-8") if path.is_file() else ""
            text = changed[path]
            if text.count(hunk.old) != 1:
                raise KernelsDoNotFit(
                    f"{patch.name} does not fit {hunk.file}: its lines are there {text.count(hunk.old)} times",
                    remedy="report this: the patch and the pinned source belong together",
                )
            changed[path] = text.replace(hunk.old, hunk.new)
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")
    for header in HERE.glob("*.h"):
        shutil.copy(header, llama_cpp / "ggml/src/ggml-cpu" / header.name)


def changes(diff: str) -> Iterator[Change]:
    """The hunks of a unified diff whose paths begin with ``a/`` and ``b/``.

    >>> [c] = changes("--- a/x.c\\n+++ b/x.c\\n@@ -1,2 +1,2 @@\\n one\\n-two\\n+three\\n")
    >>> c
    Change(file='x.c', old='one\\ntwo\\n', new='one\\nthree\\n')
    """
    file, old, new = "", "", ""
    for line in [*diff.splitlines(keepends=True), "@@"]:
        if line.startswith(("--- a/", "+++ b/")):
            following = line[6:].strip()
            if old or new:
                yield Change(file, old, new)
            file, old, new = following, "", ""
        elif line.startswith("@@"):
            if old or new:
                yield Change(file, old, new)
            old, new = "", ""
        else:
            old += line[1:] if line[0] in " -" else ""
            new += line[1:] if line[0] in " +" else ""
