"""``hm model install``: the engine, compiled for this machine from the pinned set of ``runner/requirements.lock``.

llama.cpp's sources, whose digest is pinned too, get our kernels (``runner/kernels``) before they are compiled.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from harbourmaster.core.errors import UnavailableError
from runner import kernels

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
    with tempfile.TemporaryDirectory(prefix="hm-install-") as made:
        place = Path(made)
        say("installing what builds the engine ...")
        _pip("install", _hashed(place, [text for name, text in pins.items() if name != ENGINE]))
        say("compiling the engine for this machine: some minutes ...")
        source = _source(place, pins[ENGINE])
        _pip("install", ["--no-build-isolation", "--no-deps", "--force-reinstall", str(source)], jobs=jobs)
    importlib.invalidate_caches()
    if not is_installed():
        raise InstallFailed("the engine was installed but cannot be found", remedy="report this")
    libraries = _libraries()
    libraries.joinpath(kernels.MARK).write_text(_mark(libraries))


def has_kernels() -> bool:
    """Is the installed engine compiled with the kernels that are here now?"""
    try:
        libraries = _libraries()
        return libraries.joinpath(kernels.MARK).read_text() == _mark(libraries)
    except FileNotFoundError:
        return False


def _mark(libraries: Path) -> str:
    """Of the kernels and of what was compiled: the engine may be installed again without us, and the mark stays."""
    compiled = hashlib.sha256()
    for library in sorted(libraries.glob("*ggml-cpu*")):
        compiled.update(library.read_bytes())
    return f"{kernels.fingerprint()} {compiled.hexdigest()}"


def _libraries() -> Path:
    """Where the engine's libraries are; found without loading them."""
    found = importlib.util.find_spec("llama_cpp")
    if found is None or found.origin is None:
        raise FileNotFoundError("llama_cpp")
    return Path(found.origin).parent / "lib"


def _source(place: Path, pin: str) -> Path:
    """The pinned source of the engine, with our kernels in it."""
    _pip("download", ["--no-binary", ":all:", "--no-build-isolation", "-d", str(place), *_hashed(place, [pin])])
    [archive] = place.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        # The digest says that it is the archive that was pinned; Python before 3.11.4 has no filters and ignores this.
        packed.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        packed.extractall(place / "source")  # noqa: S202
    [source] = (place / "source").iterdir()
    kernels.change(source / "vendor" / "llama.cpp")
    return source


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


def _hashed(place: Path, pins: list[str]) -> list[str]:
    """Options that name exactly these, with their digests."""
    wanted = place / "requirements.txt"
    wanted.write_text("".join(pins))
    return ["--require-hashes", "--no-deps", "-r", str(wanted)]


def _pip(verb: str, options: list[str], jobs: int = 0) -> None:
    if not importlib.util.find_spec("pip"):
        raise InstallFailed(
            "this Python has no pip",
            remedy=f"give it one: {sys.executable} -m ensurepip (./hm makes an environment that has it)",
        )
    command = [sys.executable, "-m", "pip", verb, "-q", "--disable-pip-version-check", "--no-input", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(jobs))
    if done.returncode:
        raise InstallFailed(
            f"pip failed: {done.stderr.strip()[-1500:]}",
            remedy="check the package index and the compiler, then run: hm model install",
        )


def _environment(jobs: int) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # cmake and ninja are there
    return {**os.environ, "PATH": path, **({"CMAKE_BUILD_PARALLEL_LEVEL": str(jobs)} if jobs else {})}
