"""Writing a new entry's folder: what was looked up, what the author wished, and what is left to write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import typer

from harbourmaster.core.errors import HarbourError, UsageError
from harbourmaster.core.files import write_atomic
from registry.entry import ENTRY_FILE
from registry.fields import CATEGORIES
from registry.lint import lint
from registry.locker import lock
from registry.lookup.found import Found
from registry.new import draft
from registry.schema import parse_entry
from sandbox.profile import Profile

Ask = Callable[[str, str], str]


@dataclass(frozen=True)
class Wishes:
    """What the author said; empty: what was looked up, or asked."""

    name: str = ""
    title: str = ""
    description: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    licence: str = ""
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    expect: str = ""


@dataclass(frozen=True)
class Written:
    """``left``: what lint still asks for."""

    folder: Path
    files: tuple[str, ...]
    left: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"folder": str(self.folder)}


def write_new(found: Found, wishes: Wishes, root: Path, *, ask: bool = False) -> Written:
    """Write ``root/<name>``, lock it, lint it.  A folder that is there already is refused, and nothing half-written stays."""
    if ask:
        wishes = _asked(found, wishes)
    found = replace(
        found,
        title=wishes.title or found.title,
        description=wishes.description or found.description,
        command=wishes.command or found.command,
        licence=wishes.licence or found.licence,
    )
    folder = root / (wishes.name or found.name)
    if folder.exists():
        raise UsageError(f"{folder} is there already", remedy="choose another name: --name")
    document = draft(found, wishes)
    entry = parse_entry(folder / ENTRY_FILE, document)
    write_atomic(folder / ENTRY_FILE, document)
    left: list[str] = []
    if entry.build is not None:
        try:
            lock(entry, folder)
        except HarbourError as e:
            left.append(f"{e.message} ({e.remedy}); then: hm registry lock {entry.name}")
    linted = lint(folder, Profile.load())
    left += [f"{problem.message} ({problem.remedy})" for problem in linted.problems]
    left += [f"{advice} ({advice.remedy})" for advice in linted.advice]
    return Written(folder, tuple(sorted(p.name for p in folder.iterdir())), tuple(left))


def _asked(found: Found, wishes: Wishes) -> Wishes:
    """A person at the prompt; an empty answer takes what stands in brackets."""

    def prompt(question: str, otherwise: str) -> str:
        return str(typer.prompt(question, default=otherwise, show_default=bool(otherwise))).strip()

    return replace(
        wishes,
        name=wishes.name or prompt("Name of its folder", found.name),
        title=wishes.title or prompt("Title", found.title),
        description=wishes.description or prompt("What it does, in a sentence", found.description),
        category=wishes.category or prompt(f"Category ({', '.join(CATEGORIES)})", "utilities"),
        hosts=wishes.hosts or tuple(prompt("Hosts it needs, as host:port, with spaces between", "").split()),
        tool=wishes.tool or (prompt("A tool to call in its test (empty: later)", "") if found.runtime else ""),
    )
