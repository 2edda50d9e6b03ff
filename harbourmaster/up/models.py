"""Whether local models can be prepared on this machine: their engine is compiled here, which takes a compiler."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from harbourmaster.up.host import Host, install_packages
from runner.setup import state

COMPILERS = ("c++", "g++", "clang++")
PACKAGES = ("g++", "libc6-dev")

Say = Callable[[str], None]


def models_can_be_prepared(settings: Settings, *, yes: bool, say: Say) -> bool:
    """True where nothing is missing or a compiler is there, perhaps since just now; else it is said what that costs."""
    if state(settings) == "ready" or any(shutil.which(compiler) for compiler in COMPILERS):
        return True
    try:
        install_packages(
            Host.look(), PACKAGES, "the engine of local models is compiled on this machine", yes=yes, say=say
        )
    except HarbourError as e:
        say(f"local models are left out: {e.message} ({e.remedy})")
        return False
    return True
