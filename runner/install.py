"""``hm model install``: the engine, compiled for this machine from the pinned set of ``runner/requirements.lock``."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from harbourmaster.core.errors import UnavailableError

LOCK = Path(__file__).with_name("requirements.lock")
ENGINE = "llama-cpp-python"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class InstallFailed(UnavailableError):
    code = "runner.install_failed"


def is_installed() -> bool:
    """The engine, and Pillow, with which it reads pictures."""
    return all(importlib.util.find_spec(module) is not None for module in ("llama_cpp", "PIL"))


def install(say: Callable[[str], None], *, jobs: int = 0) -> None:
    """Tools first, then the engine with them (so that what builds it is pinned too).  Raises ``InstallFailed``.

    ``jobs``: compiler processes at once; 0: one for each core.
    """
    if not shutil.which("c++") and not shutil.which("g++") and not shutil.which("clang++"):
        raise InstallFailed(
            "there is no C++ compiler", remedy="install one (Debian: apt-get install g++), then run: hm model install"
        )
    pins = entries(LOCK.read_text())
    with tempfile.TemporaryDirectory(prefix="hm-install-") as place:
        say("installing what builds the engine ...")
        _pip(Path(place), [text for name, text in pins.items() if name != ENGINE])
        say("compiling the engine for this machine: some minutes ...")
        _pip(Path(place), [pins[ENGINE]], "--no-build-isolation", jobs=jobs)
    importlib.invalidate_caches()
    if not is_installed():
        raise InstallFailed("the engine was installed but cannot be found", remedy="report this")


def entries(lock: str) -> dict[str, str]:
    """Requirement name -> its lines (pin, marker and hashes) in a lock file."""
    found: dict[str, str] = {}
    name = ""
    for line in lock.splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            match = _NAME.match(line)
            name = match.group().lower() if match else ""
        if name:
            found[name] = f"{found.get(name, '')}{line}\n"
    return found


def _pip(place: Path, pins: list[str], *options: str, jobs: int = 0) -> None:
    if not importlib.util.find_spec("pip"):
        raise InstallFailed(
            "this Python has no pip",
            remedy=f"give it one: {sys.executable} -m ensurepip (./hm makes an environment that has it)",
        )
    wanted = place / "requirements.txt"
    wanted.write_text("".join(pins))
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]
    command += ["--require-hashes", "--no-deps", *options, "-r", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(jobs))
    if done.returncode:
        raise InstallFailed(
            f"pip failed: {done.stderr.strip()[-1500:]}",
            remedy="check the package index and the compiler, then run: hm model install",
        )


def _environment(jobs: int) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # cmake and ninja are there
    return {**os.environ, "PATH": path, **({"CMAKE_BUILD_PARALLEL_LEVEL": str(jobs)} if jobs else {})}
