"""What is wrong with one server's folder, and what is worth saying of it; reads files, asks nobody."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harbourmaster.core.errors import HarbourError
from registry.advice import Advice
from registry.build.errors import FolderInvalid
from registry.entry import Entry
from registry.entry_file import MAX_ENTRY_BYTES, hidden_characters
from registry.listing import sandbox_spec
from registry.locks import BUILD_LOCK, MAX_LOCK_BYTES, NODE_LOCK, NODE_MANIFEST, PYTHON_LOCK, read_locks
from registry.new import UNWRITTEN, UNWRITTEN_PROGRAM, UNWRITTEN_TOOL
from registry.schema import ENTRY_FILE, read_entry
from sandbox.profile import Profile, container_config

NO_IMAGE = "sha256:" + "0" * 64  # stands for an image where only the rest of a sandbox is checked
MAX_README_BYTES = 256 << 10  # the largest of 328 real ones has 60 kB
MAX_TOOLS_BYTES = 8 << 20  # the largest real tools.json (302 tools) has 280 kB

_FILES = {
    ENTRY_FILE: MAX_ENTRY_BYTES,
    PYTHON_LOCK: MAX_LOCK_BYTES,
    BUILD_LOCK: MAX_LOCK_BYTES,
    NODE_MANIFEST: MAX_LOCK_BYTES,
    NODE_LOCK: MAX_LOCK_BYTES,
    "readme.md": MAX_README_BYTES,
    "README.md": MAX_README_BYTES,
    "tools.json": MAX_TOOLS_BYTES,
}


@dataclass
class Linted:
    """``entry`` is there when the file could be read at all."""

    name: str
    entry: Entry | None = None
    problems: list[HarbourError] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)


def lint(folder: Path, profile: Profile) -> Linted:
    """Every problem that can be told without building; raises nothing for what is wrong with the folder."""
    found = Linted(folder.name)
    try:
        if links := _links(folder):
            found.problems += links
            return found  # nothing is read through a link, not even to say what is wrong with it
        found.problems += _files(folder)
        reading = read_entry(folder)
        found.entry, found.advice = reading.entry, list(reading.advice)
        _check(reading.entry, folder, profile)
    except HarbourError as e:
        found.problems.append(e)
    except OSError as e:
        found.problems.append(FolderInvalid(f"{folder}: {e.strerror}", remedy="check the folder and its permissions"))
    return found


def _check(entry: Entry, folder: Path, profile: Profile) -> None:
    """Locks where something is built, and a sandbox that the profile would make of it."""
    for key, words in _unwritten(entry):
        raise FolderInvalid(f"{folder / ENTRY_FILE}: {key} is not written yet ({words})", remedy="write it")
    if entry.build is not None:
        read_locks(entry, folder)
    if entry.type == "server":
        container_config(profile, sandbox_spec(entry, NO_IMAGE, NO_IMAGE))


def _unwritten(entry: Entry) -> Iterator[tuple[str, str]]:
    """What ``hm registry new`` left for its author."""
    if entry.about.description.strip() == UNWRITTEN:
        yield "about.description", UNWRITTEN
    if UNWRITTEN_PROGRAM in entry.run.command:
        yield "run.command", "name the program that starts it"
    if entry.test and any(call.tool == UNWRITTEN_TOOL for call in entry.test.calls):
        yield "test.calls", "promise a call and what its answer contains"


def _links(folder: Path) -> list[HarbourError]:
    """What is no plain file or folder of its own: it could lead anywhere on the machine that reads it."""
    if folder.is_symlink():
        return [FolderInvalid(f"{folder} is a link", remedy="replace it by the folder")]
    odd = [path for path in sorted(folder.iterdir()) if not stat.S_ISREG(path.lstat().st_mode)]
    return [FolderInvalid(f"{p} is no plain file", remedy="remove it: links and folders are not read") for p in odd]


def _files(folder: Path) -> list[HarbourError]:
    """A folder holds plain files of known names and bounded sizes, and a readme that shows what it says."""
    problems: list[HarbourError] = []
    for path in sorted(folder.iterdir()):
        state = path.lstat()
        limit = _FILES.get(path.name)
        if limit is None:
            known = ", ".join(sorted(_FILES))
            problems.append(FolderInvalid(f"{path} does not belong here", remedy=f"remove it; known are {known}"))
        elif state.st_size > limit:
            problems.append(
                FolderInvalid(f"{path} has {state.st_size} bytes; the limit is {limit}", remedy="shorten it")
            )
        elif path.suffix == ".md":
            problems += _readme(path)
    return problems


def _readme(path: Path) -> list[HarbourError]:
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        return [FolderInvalid(f"{path} is not UTF-8", remedy="save it as UTF-8")]
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\t", " ").split("\n"), start=1):
        # emoji are spelt with joiners and selectors, and a readme is full of them
        if found := [c for c in hidden_characters(line) if c not in ("ZERO WIDTH JOINER", "VARIATION SELECTOR-16")]:
            return [FolderInvalid(f"{path}:{number}: has an invisible character ({found[0]})", remedy="remove it")]
    return []
