"""Who owns a sandbox: a process, named so that a reused process id is not mistaken for it."""

from __future__ import annotations

import os
from pathlib import Path

LABEL_SANDBOX = "harbourmaster.sandbox"  # docs/architecture.md
LABEL_HOME = "harbourmaster.home"
LABEL_OWNER = "harbourmaster.owner"
LABEL_SERVER = "harbourmaster.server"
LABEL_IMAGE = "harbourmaster.image"
LABEL_RELAY = "harbourmaster.relay"


def start_time(pid: int) -> int | None:
    """Clock ticks between boot and the start of ``pid`` (field 22 of /proc/PID/stat, proc(5)); None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before may hold spaces and parentheses
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def owner_of_this_process() -> str:
    return f"{os.getpid()}-{start_time(os.getpid())}"


def is_alive(owner: str) -> bool:
    """Whether the process that an owner label names still runs.  A label we cannot read names nobody."""
    pid, _, started = owner.partition("-")
    if not (pid.isascii() and pid.isdigit()):
        return False
    return str(start_time(int(pid))) == started
