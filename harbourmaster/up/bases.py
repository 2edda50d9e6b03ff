"""Base images before the builds: pulled where Docker Hub answers, else the way to make them is there or is asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable

from docker.errors import APIError

from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from harbourmaster.up.host import MMDEBSTRAP, Host, install_packages
from registry.build.builder import BuildContext
from registry.build.errors import BaseUnavailable
from registry.build.network import detect
from registry.build.relay import is_built
from registry.cli_progress import progress_view
from registry.schema import Entry
from sandbox.engine import Engine

WHY = "Docker Hub does not answer, so base images are made from Debian packages"
OTHERWISE = (
    "install mmdebstrap and Debian's archive keyring, or let the container engine reach docker.io, then run hm up again"
)


def ensure_bases(
    settings: Settings, engine: Engine, entries: Iterable[Entry], *, yes: bool, say: Callable[[str], None]
) -> None:
    """Before anything is built: the base images of ``entries``, or mmdebstrap to make them with.

    Raises ``InstallRefused`` or ``InstallFailed``.  Whatever else keeps a base from being made, the builds that need it say.
    """
    if shutil.which("mmdebstrap") or _can_be_had(settings, engine, _runtimes(settings, entries)):
        return
    install_packages(Host.look(), MMDEBSTRAP, WHY, yes=yes, say=say, otherwise=OTHERWISE)


def _runtimes(settings: Settings, entries: Iterable[Entry]) -> list[str]:
    """What the builds run on; the relay of servers with network rules is compiled on Python's."""
    entries = list(entries)
    found = {entry.build.runtime for entry in entries if entry.build is not None}
    if any(entry.run.network.hosts for entry in entries) and not is_built(settings):
        found.add("python")
    return sorted(found)


def _can_be_had(settings: Settings, engine: Engine, runtimes: list[str]) -> bool:
    with progress_view() as progress:

        def pulling(name: str, stage: str, fraction: float) -> None:
            if name != "debian":  # without mmdebstrap it is not begun
                progress(name, stage, fraction)

        context = BuildContext.create(settings, engine.client, detect(os.environ), pulling)
        try:
            for runtime in runtimes:
                if not _is_recorded(context, runtime):
                    context.bases.runtime(runtime)
        except BaseUnavailable:
            return False
        except (HarbourError, APIError, OSError):
            return True
    return True


def _is_recorded(context: BuildContext, runtime: str) -> bool:
    manifest, _ = context.bases.digests(runtime)
    return bool(manifest) and context.layout.blobs.has(manifest)
