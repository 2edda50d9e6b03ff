"""Starting and stopping the supervised processes, and waiting until the gateway answers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from harbourmaster.core.settings import Settings
from harbourmaster.up.errors import GatewayDidNotStart, PortTaken
from harbourmaster.up.processes import Service, services, without_a_place
from harbourmaster.up.state import RunState, is_alive, read_state
from harbourmaster.up.supervisor import STOP_GRACE_S, gateway_url, spawn_detached

READY_TIMEOUT_S = 30.0
POLL_S = 0.05

Say = Callable[[str], None]


def health_url(url: str) -> str:
    return url.removesuffix("/mcp") + "/healthz"


def is_healthy(url: str) -> bool:
    """Whether the gateway at ``url`` (its /mcp address) answers."""
    try:
        return httpx2.get(health_url(url), timeout=1.0, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def with_a_place(settings: Settings, wanted: list[Service], say: Say) -> list[Service]:
    """Those that can listen.  Raises ``PortTaken`` for the gateway; the others are left out and it is said why."""
    taken = {service.name: service for service in without_a_place(wanted)}
    if gateway := taken.get("gateway"):
        raise PortTaken(
            f"the gateway cannot listen on {gateway.address}: another program has the port",
            remedy="stop that program, or set HM_GATEWAY_PORT to another",
        )
    for service in taken.values():
        say(
            f"{service.name} is left out: another program has {service.address} "
            f"(stop it, or set HM_{service.name.upper()}_PORT to another, then hm down and hm up)"
        )
    return [service for service in wanted if service.name not in taken]


def start_detached(settings: Settings, wanted: list[Service], say: Say) -> RunState:
    """Start the supervisor unless it runs; returns when the gateway answers."""
    running = read_state(settings.run_dir)
    if running is None:
        kept = {service.name for service in with_a_place(settings, wanted, say)}
        supervisor = spawn_detached(settings, [s.name for s in services(settings) if s.name not in kept])
    else:
        supervisor = None
        if running.url != (configured := gateway_url(settings)):
            say(f"it runs already, at {running.url}; to have it at {configured}: hm down, then hm up again")
    return _wait_until_ready(settings, supervisor)


def _wait_until_ready(settings: Settings, supervisor: subprocess.Popen[bytes] | None) -> RunState:
    deadline, state = time.monotonic() + READY_TIMEOUT_S, None
    while time.monotonic() < deadline:
        state = read_state(settings.run_dir)
        if state is not None and is_healthy(state.url):
            return state
        if supervisor is not None and supervisor.poll() is not None:
            break
        time.sleep(POLL_S)
    log = settings.log_dir / "gateway.log"
    raise GatewayDidNotStart(
        f"the gateway did not answer at {health_url(state.url if state else gateway_url(settings))}: {_last_line(log)}",
        remedy=f"read {log}, or run in the foreground: hm gateway run --transport http",
    )


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "no log was written"
    return lines[-1][-300:] if lines else "its log is empty"


def stop(settings: Settings) -> bool:
    """End what runs; False when nothing did."""
    state = read_state(settings.run_dir)
    if state is None:
        return False
    os.kill(state.supervisor.pid, signal.SIGTERM)
    deadline = time.monotonic() + 2 * STOP_GRACE_S
    while is_alive(state.supervisor) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if is_alive(state.supervisor):
        os.kill(state.supervisor.pid, signal.SIGKILL)
    return True
