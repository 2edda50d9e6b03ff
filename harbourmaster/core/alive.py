"""Which processes live: a process id names one only together with its start time, because ids are used again."""

from __future__ import annotations

from pathlib import Path


def start_time(pid: int) -> int | None:
    """Clock ticks between boot and the start of ``pid`` (field 22 of /proc/PID/stat, proc(5)); None when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before may hold spaces and parentheses
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
