"""`hm test`: the project's own tests, with the engine and the Debian packages they use."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Annotated

import typer

from harbourmaster.core.errors import HarbourError, UsageError
from harbourmaster.core.program import is_clone
from harbourmaster.core.settings import PROJECT_ROOT, Settings
from harbourmaster.up.engine import ensure_engine
from harbourmaster.up.host import Host, install_packages

# Debian package -> the program that shows it is there.  Tests skip with this reason where it stays missing.
TEST_PACKAGES = {
    "docker-registry": "docker-registry",
    "skopeo": "skopeo",
    "mmdebstrap": "mmdebstrap",
    "postgresql": "pg_ctlcluster",
    "chromium": "chromium",
    "gcc": "gcc",
    "libc6-dev": "gcc",
}


def say(line: str) -> None:
    sys.stderr.write(f"hm: {line}\n")


def test(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Install what is missing without asking.")] = False,
    prepare_only: Annotated[
        bool, typer.Option("--prepare-only", help="Install the development tools, run nothing.")
    ] = False,
) -> None:
    """Run the tests.  Everything else on the line goes to pytest: hm test -m "not engine" -k gateway"""
    if not is_clone():
        raise UsageError("an installed package comes without tests", remedy="clone the project and run ./hm test there")
    if prepare_only:
        return
    arguments = list(context.args)
    if "not engine" not in " ".join(arguments):
        _prepare(yes=yes)
    raise typer.Exit(subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=PROJECT_ROOT).returncode)


def _prepare(*, yes: bool) -> None:
    missing = [package for package, program in TEST_PACKAGES.items() if not shutil.which(program)]
    if missing:
        try:
            install_packages(Host.look(), missing, f"some tests use {', '.join(missing)}", yes=yes, say=say)
        except HarbourError as e:
            say(f"{e.message}; those tests will be skipped")
    ensure_engine(Settings.load(), yes=yes, say=say)
