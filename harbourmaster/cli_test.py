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
from runner.install import is_installed
from runner.setup import prepare, state

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
    settings = Settings.load()
    ensure_engine(settings, yes=yes, say=say)
    _model_engine(settings, yes=yes)


def _model_engine(settings: Settings, *, yes: bool) -> None:
    """Tests of models skip where the engine is not there: wait for one that `hm up` is compiling, or compile it."""
    if is_installed():
        return
    if not yes and state(settings) != "preparing":
        say("the model engine is not installed; tests of models will be skipped (hm test --yes compiles it)")
        return
    try:
        prepare(settings, say)
    except HarbourError as e:
        say(f"{e.message}; tests of models will be skipped")
