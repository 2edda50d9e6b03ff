"""The processes of `hm up`: what each is called, how it starts, where it listens."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from harbourmaster.core.settings import Settings

LOOPBACK = "127.0.0.1"
PATIENCE_S = 3.0
POLL_S = 0.05
LONG_JOB_NICENESS = "19"  # nice(1): preparing models takes what the gateway leaves


@dataclass(frozen=True)
class Service:
    name: str
    command: tuple[str, ...]
    host: str = ""
    port: int = 0
    once: bool = False  # a job that is done when it ends, not a process to keep alive

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def services(settings: Settings, *, models: bool = True, console: bool = True) -> list[Service]:
    """All of them, the gateway first."""
    hm = (sys.executable, "-m", "harbourmaster")
    where = ("--host", settings.gateway_host, "--port", str(settings.gateway_port))
    found = [
        Service(
            "gateway",
            (*hm, "gateway", "run", "--transport", "http", *where),
            settings.gateway_host,
            settings.gateway_port,
        )
    ]
    if console:
        port = settings.console_port
        found.append(Service("console", (*hm, "console", "run", "--port", str(port)), LOOPBACK, port))
    if models:
        port = settings.runner_port
        found.append(Service("runner", (*hm, "model", "serve", "--port", str(port)), LOOPBACK, port))
        found.append(Service("models", (*_nicely(), *hm, "model", "setup"), once=True))
    return found


def _nicely() -> tuple[str, ...]:
    return ("nice", "-n", LONG_JOB_NICENESS) if shutil.which("nice") else ()


def without_a_place(wanted: Iterable[Service], *, patience_s: float = PATIENCE_S) -> list[Service]:
    """Those whose port another program keeps; our own of a moment ago may need that moment to end."""
    deadline = time.monotonic() + patience_s
    waiting = [s for s in wanted if s.port]
    while waiting := [s for s in waiting if not can_listen(s.host, s.port)]:
        if time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    return waiting


def can_listen(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, port))
        except OSError:
            return False
        return True
