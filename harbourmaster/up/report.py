"""What `hm status` says, as data."""

from __future__ import annotations

from typing import Any

import httpx2

from gateway.lock import read_lock
from gateway.tokens import TokenStore
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.running import listening
from harbourmaster.core.settings import Settings
from harbourmaster.up.starting import is_healthy
from harbourmaster.up.state import is_alive, read_state
from harbourmaster.up.supervisor import gateway_url
from runner.setup import state as model_state


def status_report(settings: Settings) -> dict[str, Any]:
    """``{running, healthy, url, gateways?, since?, addresses, models, pool, processes, servers: {locked, enabled}, home}``.

    ``gateways``: those beside the one at ``url``: ``"http://... (process 7)"`` each.
    """
    state = read_state(settings.run_dir)
    servers = read_lock(settings.lock_file)
    found = listening(settings.run_dir)
    url = state.url if state else next((g.url for g in found), gateway_url(settings))
    report: dict[str, Any] = {
        "running": state is not None or bool(found),
        "healthy": is_healthy(url),
        "url": url,
        "home": str(settings.home),
        "servers": {"locked": len(servers), "enabled": sum(s.enabled for s in servers.values())},
    }
    if by_hand := [f"{g.url} (process {g.pid})" for g in found if g.url != url]:
        report["gateways"] = by_hand
    if state is not None:
        report["since"] = state.since
        report["addresses"] = state.addresses
        report["models"] = model_state(settings)
        report["pool"] = pool(settings, url)
        report["processes"] = {name: p.pid for name, p in state.processes.items() if is_alive(p)}
    return report


def pool(settings: Settings, gateway: str = "") -> dict[str, Any]:
    """``pool`` of the running gateway's /admin/status, and how many sessions and leases there are; empty when it does not answer."""
    url = (gateway or gateway_url(settings)).removesuffix("/mcp") + "/admin/status"
    try:
        token = TokenStore(settings.tokens_file).default()
        answer = httpx2.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=2.0, trust_env=False)
        said = answer.json()
        return {**said["pool"], "sessions": len(said["sessions"]), "leases": len(said["leases"])}
    except (httpx2.HTTPError, HarbourError, ValueError, KeyError, TypeError):
        return {}
