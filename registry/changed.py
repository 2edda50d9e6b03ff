"""Which entries a branch changes, by git."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from harbourmaster.core.errors import UsageError
from registry.build.container import printable
from registry.entry import ENTRY_FILE

_GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false")


@dataclass
class Changed:
    """``folders``: entries that are there now; ``before``: their file at the base; ``removed`` and ``elsewhere``: other paths."""

    folders: list[Path] = field(default_factory=list)
    before: dict[str, bytes] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)


def changed_entries(root: Path, base: str) -> Changed:
    """Compare the working tree with where it left ``base``.  Raises ``UsageError`` when git cannot say."""
    top = Path(_git(root, "rev-parse", "--show-toplevel").decode().strip())
    fork = _git(root, "merge-base", "--", base, "HEAD").decode().strip()
    tracked = _git(root, "diff", "--name-only", "--no-renames", "-z", fork, "--").decode("utf-8", "surrogateescape")
    fresh = _git(top, "ls-files", "--others", "--exclude-standard", "-z").decode("utf-8", "surrogateescape")
    if not root.resolve().is_relative_to(top.resolve()):
        raise UsageError(f"{root} leads out of its repository", remedy="name the folder of entries itself")
    found, place = Changed(), root.resolve().relative_to(top.resolve())
    names: set[str] = set()
    for path in filter(None, f"{tracked}{fresh}".split("\0")):
        parts = Path(path).relative_to(place).parts if Path(path).is_relative_to(place) else ()
        if len(parts) < 2:
            found.elsewhere.append(path)
        else:
            names.add(parts[0])
    for name in sorted(names):
        _sort(found, root / name, _at(top, fork, (place / name / ENTRY_FILE).as_posix()))
    return found


def _sort(found: Changed, folder: Path, before: bytes | None) -> None:
    if not folder.is_dir():
        found.removed.append(folder.name)
        return
    found.folders.append(folder)
    if before is not None:
        found.before[folder.name] = before


def default_base(environ: dict[str, str] | None = None) -> str:
    """The pull request's base as GitHub's runners name it, else the main branch of ``origin``."""
    said = (dict(os.environ) if environ is None else environ).get("GITHUB_BASE_REF", "")
    return f"origin/{said or 'main'}"


def _at(top: Path, commit: str, path: str) -> bytes | None:
    done = subprocess.run([*_GIT, "cat-file", "blob", f"{commit}:{path}"], cwd=top, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def _git(place: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run([*_GIT, *arguments], cwd=place, capture_output=True, check=False)
    except OSError as e:
        raise UsageError(f"{place}: {e.strerror}", remedy="name a folder of a git repository: --root") from e
    if done.returncode != 0:
        said = printable(done.stderr.decode("utf-8", "replace").strip())[:500]
        raise UsageError(
            f"git cannot tell what changed: {said}", remedy="fetch the base branch, or name it: --base REF"
        )
    return done.stdout
