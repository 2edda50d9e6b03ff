"""What a fresh machine lacks before a model answers: the compiled engine and the starter models.

Compiling takes minutes, so `hm up` lets it happen beside everything else, and whoever needs a model first waits for it.
A starter model that a person removed stays removed: each is fetched once for each home.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from harbourmaster.core.files import file_lock, is_locked, make_private_dir, write_atomic
from harbourmaster.core.settings import Settings
from runner.install import install as install_engine
from runner.install import is_installed
from runner.store.starter import STARTERS, install
from runner.store.store import ModelStore

State = Literal["ready", "preparing", "missing"]


def state(settings: Settings) -> State:
    if is_installed() and not _wanted(settings):
        return "ready"
    return "preparing" if is_locked(_lock(settings)) else "missing"


def prepare(settings: Settings, say: Callable[[str], None], *, jobs: int = 0) -> None:
    """Install what is missing; where another process is at it, wait for that one.

    ``jobs``: compilers at once, 0: one for each core.  Raises ``StarterUnavailable`` or ``InstallFailed``; what was
    finished before stays.
    """
    if state(settings) == "preparing":
        say("the models are being prepared; waiting ...")
    make_private_dir(_root(settings))
    with file_lock(_lock(settings)):
        for tag in _wanted(settings):
            say(f"fetching {tag} ...")
            install(ModelStore(_root(settings)), STARTERS[tag])
            _note_fetched(settings, tag)
        if not is_installed():
            install_engine(say, jobs=jobs)


def _wanted(settings: Settings) -> list[str]:
    return [tag for tag in STARTERS if tag not in _fetched(settings)]


def _fetched(settings: Settings) -> list[str]:
    try:
        return list(json.loads(_notes(settings).read_text()))
    except (FileNotFoundError, ValueError):
        return []


def _note_fetched(settings: Settings, tag: str) -> None:
    write_atomic(_notes(settings), json.dumps([*_fetched(settings), tag]).encode())


def _notes(settings: Settings) -> Path:
    return _root(settings) / "starters.json"


def _lock(settings: Settings) -> Path:
    return _root(settings) / "setup.lock"


def _root(settings: Settings) -> Path:
    return settings.home / "models"
