"""How people and other programs start this one: ``./hm`` in a clone, ``hm`` where a package is installed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from harbourmaster.core.settings import PROJECT_ROOT

_HINT = re.compile(r"(?<![\w./~-])(?:\./)?hm (?=[a-z])")


def is_clone() -> bool:
    """Whether this runs from the project's own folder, rather than from an installed package."""
    return (PROJECT_ROOT / "pyproject.toml").is_file()


def name() -> str:
    """The program as this person typed it: the script ``hm`` says so in ``HM_PROGRAM``."""
    typed = os.environ.get("HM_PROGRAM", "")
    return shlex.quote(typed) if typed else "hm"


def as_typed(text: str) -> str:
    """``text`` with its hints (``hm doctor``, ``./hm up``) naming the program as it was typed, so that they can be pasted."""
    typed = name()
    return _HINT.sub(lambda _: f"{typed} ", text)


def path() -> Path:
    """What another program starts: a whole path, because that program has a PATH and a folder of its own."""
    script = PROJECT_ROOT / "hm"
    if script.is_file():
        return script
    beside = Path(sys.executable).with_name("hm")
    return beside if beside.is_file() else Path(shutil.which("hm") or beside)
