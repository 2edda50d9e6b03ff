"""Which gateways of this home listen now: each writes HM_HOME/run/gateways/PID.json once it is bound, and removes it at its end.

A record is believed only while the process that wrote it lives, so that one left by a crash says nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harbourmaster.core.alive import start_time
from harbourmaster.core.errors import UsageError
from harbourmaster.core.files import SECRET_MODE, make_private_dir, write_atomic
from harbourmaster.core.settings import Settings

# Where to reach what listens everywhere.
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - translated away, never bound


class SeveralGateways(UsageError):
    code = "gateway.several"


@dataclass(frozen=True)
class Listening:
    """One gateway; ``servers``: those that it serves alone (``--servers``), empty for all."""

    pid: int
    started: int
    host: str
    port: int
    servers: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return url_of(self.host, self.port)


def dialled(host: str) -> str:
    return LOOPBACK.get(host, host)


def url_of(host: str, port: int) -> str:
    reached = dialled(host)
    return f"http://{f'[{reached}]' if ':' in reached else reached}:{port}/mcp"


@contextlib.contextmanager
def recorded(run_dir: Path, host: str, port: int, servers: tuple[str, ...] = ()) -> Iterator[None]:
    """This process is a gateway that listens there, until the block ends."""
    pid = os.getpid()
    file = make_private_dir(run_dir / "gateways") / f"{pid}.json"
    for left in [old for old, record in _alive(run_dir) if record is None]:
        left.unlink(missing_ok=True)
    record = Listening(pid, start_time(pid) or 0, host, port, servers)
    write_atomic(file, json.dumps(asdict(record)).encode(), mode=SECRET_MODE)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def listening(run_dir: Path) -> list[Listening]:
    """The gateways of this home that run now, the oldest first."""
    found = [record for _, record in _alive(run_dir) if record is not None]
    return sorted(found, key=lambda record: (record.started, record.port))


def the_gateway(settings: Settings, server: str = "") -> Listening | None:
    """The gateway of this home to talk to; None when none runs.  ``server``: one that serves it.

    The one at the configured address where it runs; else the only one.  Raises ``SeveralGateways``.
    """
    running = listening(settings.run_dir)
    able = [g for g in running if not g.servers or server in g.servers]
    here = (dialled(settings.gateway_host), settings.gateway_port)
    for gateway in able:
        if (dialled(gateway.host), gateway.port) == here:
            return gateway
    able = [g for g in able if not g.servers] or able
    if len(able) > 1:
        raise SeveralGateways(
            f"{len(able)} gateways of this home run: " + ", ".join(f"{g.url} (process {g.pid})" for g in able),
            remedy=f"say which one you mean with HM_GATEWAY_PORT={able[0].port} before the command, or stop the others",
        )
    return able[0] if able else None


def gateway_url(settings: Settings) -> str:
    """Where this home's gateway is reached: where it runs, else where it is configured to.  Raises ``SeveralGateways``."""
    running = the_gateway(settings)
    return running.url if running is not None else url_of(settings.gateway_host, settings.gateway_port)


def supervised(run_dir: Path) -> dict[str, str]:
    """Where the processes of `hm up` listen: name -> host:port, empty when it does not run (harbourmaster/up/state.py writes this)."""
    try:
        raw = json.loads((run_dir / "harbour.json").read_bytes())
        supervisor, addresses = raw["supervisor"], dict(raw["addresses"])
        alive = start_time(int(supervisor["pid"])) == int(supervisor["started"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return addresses if alive else {}


def runner_url(settings: Settings) -> str:
    """Where this home's model runner is reached: where `hm up` runs it, else where it is configured to."""
    return f"http://{supervised(settings.run_dir).get('runner') or f'127.0.0.1:{settings.runner_port}'}"


def console_url(settings: Settings) -> str:
    return f"http://{supervised(settings.run_dir).get('console') or f'127.0.0.1:{settings.console_port}'}"


def _alive(run_dir: Path) -> Iterator[tuple[Path, Listening | None]]:
    """Each record's file with what it says, None where its writer is gone."""
    for file in (run_dir / "gateways").glob("*.json"):
        record = _read(file)
        yield file, record if record is not None and start_time(record.pid) == record.started else None


def _read(file: Path) -> Listening | None:
    try:
        raw = json.loads(file.read_bytes())
        return Listening(
            int(raw["pid"]), int(raw["started"]), str(raw["host"]), int(raw["port"]), tuple(raw["servers"])
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None
