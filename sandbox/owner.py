"""Who owns a sandbox: a process, named so that a reused process id is not mistaken for it."""

from __future__ import annotations

import os

from harbourmaster.core.alive import start_time as start_time

LABEL_SANDBOX = "harbourmaster.sandbox"  # docs/architecture.md
LABEL_HOME = "harbourmaster.home"
LABEL_OWNER = "harbourmaster.owner"
LABEL_SERVER = "harbourmaster.server"
LABEL_IMAGE = "harbourmaster.image"
LABEL_RELAY = "harbourmaster.relay"


def owner_of_this_process() -> str:
    return f"{os.getpid()}-{start_time(os.getpid())}"


def is_alive(owner: str) -> bool:
    """Whether the process that an owner label names still runs.  A label we cannot read names nobody."""
    pid, _, started = owner.partition("-")
    if not (pid.isascii() and pid.isdigit()):
        return False
    return str(start_time(int(pid))) == started
