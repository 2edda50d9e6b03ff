"""Which processes run: HM_HOME/run/harbour.json, written by the supervisor, believed only while the pid's start time fits."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from harbourmaster.core.alive import start_time
from harbourmaster.core.files import SECRET_MODE, make_private_dir, write_atomic


@dataclass(frozen=True)
class ProcessState:
    """A process by id and start time (clock ticks since boot, field 22 of /proc/<pid>/stat: proc(5))."""

    pid: int
    started: int


@dataclass(frozen=True)
class RunState:
    supervisor: ProcessState
    url: str
    since: str
    processes: dict[str, ProcessState] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)  # host:port of those that listen


def current_process() -> ProcessState:
    pid = os.getpid()
    return ProcessState(pid, start_time(pid) or 0)


def is_alive(process: ProcessState) -> bool:
    return start_time(process.pid) == process.started


def state_file(run_dir: Path) -> Path:
    return run_dir / "harbour.json"


def write_state(run_dir: Path, state: RunState) -> None:
    make_private_dir(run_dir)
    write_atomic(state_file(run_dir), orjson.dumps(asdict(state)), mode=SECRET_MODE)


def read_state(run_dir: Path) -> RunState | None:
    """What runs now; None when nothing does or the file speaks of processes that are gone."""
    try:
        raw = orjson.loads(state_file(run_dir).read_bytes())
        state = RunState(
            supervisor=ProcessState(**raw["supervisor"]),
            url=raw["url"],
            since=raw["since"],
            processes={name: ProcessState(**p) for name, p in raw["processes"].items()},
            addresses=dict(raw.get("addresses", {})),
        )
    except (FileNotFoundError, KeyError, TypeError, orjson.JSONDecodeError):
        return None
    return state if is_alive(state.supervisor) else None


def clear_state(run_dir: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        state_file(run_dir).unlink()
