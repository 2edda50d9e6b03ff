"""Running pip, uv, npm and git, and telling "no network" from "no such thing" by their words."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from harbourmaster.core.errors import HarbourError
from registry.build.container import printable
from registry.build.words import CONNECT, MISSING, OFFLINE
from registry.lookup.errors import LookupMissing, LookupUnavailable

TIMEOUT_S = 600  # resolving a large tree on a slow link
MAX_OUTPUT = 64 << 20
TAIL_LINES = 20


class ToolFailed(Exception):
    """A client ended badly for a reason of its own."""

    def __init__(self, argv: Sequence[str], status: int, tail: str) -> None:
        super().__init__(f"{' '.join(argv[:4])} ... ended with {status}:\n{tail}")


def run(
    what: str,
    argv: Sequence[str],
    *,
    stdin: str = "",
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> bytes:
    """Standard output.  Raises ``LookupUnavailable``, ``LookupMissing`` or ``ToolFailed``; ``what`` names the thing sought."""
    try:
        done = subprocess.run(
            argv,
            input=stdin.encode(),
            capture_output=True,
            cwd=cwd,
            timeout=TIMEOUT_S,
            env=dict(os.environ if environ is None else environ),
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        raise LookupUnavailable(f"{what}: {argv[0]} did not end in {TIMEOUT_S} s", remedy="try again later") from e
    if done.returncode == 0:
        return done.stdout[:MAX_OUTPUT]
    tail = _tail(done.stderr)
    if problem := problem_in(what, tail):
        raise problem
    raise ToolFailed(argv, done.returncode, tail)


def problem_in(what: str, words: str) -> HarbourError | None:
    """The typed error that a client's words amount to, if they are about reaching or finding something."""
    if OFFLINE.search(words):
        return LookupUnavailable(
            f"{what} cannot be looked up, nobody answers:\n{words}",
            remedy=CONNECT,
        )
    if MISSING.search(words):
        return LookupMissing(f"{what} does not exist:\n{words}", remedy="check the name and the version")
    return None


def _tail(stderr: bytes) -> str:
    text = re.sub(r"(https?://)[^/@\s]+@", r"\1***@", stderr.decode("utf-8", "replace"))
    return "\n".join(printable(line) for line in text.splitlines()[-TAIL_LINES:])
