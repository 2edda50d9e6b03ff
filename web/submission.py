"""Drafts of entries: looked up, written into HM_HOME/submissions, checked, and taken away as a patch.  Blocking."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harbourmaster.core.errors import UsageError
from harbourmaster.core.files import write_atomic
from harbourmaster.core.settings import Settings
from registry.entry import ENTRY_FILE
from registry.entry_file import MAX_ENTRY_BYTES
from registry.lint import Linted, lint
from registry.lookup import git, images, npm, pypi, remote
from registry.lookup.found import Found
from registry.wizard import Wishes, Written, write_new
from sandbox.profile import Profile
from web.errors import DraftUnknown, FormInvalid

ORIGINS = {
    "pypi": "a Python package",
    "npm": "a package of npm",
    "git": "a git repository (https address)",
    "image": "a publisher's image (host/name:tag)",
    "url": "a remote server (address)",
}
MAX_SHOWN = 200_000  # characters of a lock file on a page; the patch holds all of it


@dataclass(frozen=True)
class Draft:
    name: str
    document: str
    files: tuple[str, ...]
    linted: Linted


def folder_of(settings: Settings) -> Path:
    return settings.home / "submissions"


def names(settings: Settings) -> list[str]:
    return sorted(path.parent.name for path in folder_of(settings).glob(f"*/{ENTRY_FILE}"))


def begin(settings: Settings, kind: str, place: str, wishes: Wishes) -> Written:
    """As `hm registry new`, into a folder of drafts.  Raises what a look-up raises, and ``UsageError`` for a draft that is there."""
    if wishes.name and (settings.servers_dir / wishes.name).exists():
        raise UsageError(f"there is a server {wishes.name} already", remedy="choose another name")
    return write_new(_look_up(kind, place.strip()), wishes, folder_of(settings))


def _look_up(kind: str, place: str) -> Found:
    match kind:
        case "pypi":
            return pypi.look_up(place, "")
        case "npm":
            return npm.look_up(place, "")
        case "git":
            return git.look_up(place, "", "")
        case "image":
            return images.look_up(place)
        case "url":
            return remote.look_up(place, transport="streamable-http")
    raise FormInvalid(f"no origin {kind!r}", remedy=f"one of: {', '.join(ORIGINS)}")


def draft(settings: Settings, name: str) -> Draft:
    """Raises ``DraftUnknown``."""
    folder = _folder(settings, name)
    files = tuple(sorted(path.name for path in folder.iterdir() if path.is_file()))
    text = (folder / ENTRY_FILE).read_bytes()[:MAX_ENTRY_BYTES].decode("utf-8", "replace")
    return Draft(name, text, files, lint(folder, Profile.load()))


def rewrite(settings: Settings, name: str, text: str) -> Draft:
    """Keep ``text`` as the draft's server.yaml, right or wrong: the draft says which."""
    raw = text.replace("\r\n", "\n").encode()
    if len(raw) > MAX_ENTRY_BYTES:
        raise FormInvalid(f"the entry is larger than {MAX_ENTRY_BYTES} bytes", remedy="shorten it")
    write_atomic(_folder(settings, name) / ENTRY_FILE, raw)
    return draft(settings, name)


def drop(settings: Settings, name: str) -> None:
    shutil.rmtree(_folder(settings, name))


def patch(settings: Settings, name: str) -> str:
    """New files in the form that `git apply` reads, for a pull request."""
    folder = _folder(settings, name)
    parts = []
    for path in sorted(folder.iterdir()):
        if path.is_file():
            place = f"registry/servers/{name}/{path.name}"
            parts.append(f"diff --git a/{place} b/{place}\nnew file mode 100644\n")
            parts += _added(path.read_text(), place)
    return "".join(parts)


def _added(text: str, place: str) -> Iterable[str]:
    lines = text.splitlines(keepends=True)
    for line in difflib.unified_diff([], lines, "/dev/null", f"b/{place}"):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _folder(settings: Settings, name: str) -> Path:
    if name not in names(settings):  # compared with what is there: no name becomes a path by itself
        raise DraftUnknown(f"there is no draft {name}", remedy="begin one: /submit")
    return folder_of(settings) / name


def findings(settings: Settings, found: Linted) -> list[dict[str, Any]]:
    """Problems first, then advice, each with code, message and remedy; files by their names alone."""
    here = f"{folder_of(settings) / found.name}/"
    problems = [("bad", p.code, p.message, p.remedy) for p in found.problems]
    advice = [("warn", a.code, str(a), a.remedy) for a in found.advice]
    return [
        {"level": level, "code": code, "message": message.replace(here, ""), "remedy": remedy}
        for level, code, message, remedy in problems + advice
    ]
