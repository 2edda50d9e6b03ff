"""What is looked up at the moment when somebody reads /metrics."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway.pool_status import pool
from gateway.telemetry.metrics import Family

if TYPE_CHECKING:
    from gateway.gateway import Gateway

_GAUGES: Final = {
    "sandboxes": "Running sandboxes, spares included.",
    "max_sandboxes": "How many there may be.",
    "memory_mb": "Memory of all sandboxes together, MB.",
    "memory_budget_mb": "How much they may have.",
    "waiting": "Calls that wait for a place.",
}


def gauges(gateway: Gateway, version: str) -> list[Family]:
    found: dict[str, Any] = pool(gateway.leases, asyncio.get_running_loop().time())
    clients = gateway.clients()
    eras = {"handshake": 0, "modern": 0}
    for client in clients:
        eras["modern" if client.modern else "handshake"] += 1
    families: list[Family] = [
        ("harbourmaster_info", "gauge", "The version that runs.", [({"version": version}, 1)]),
        ("harbourmaster_clients", "gauge", "Clients by era.", [({"era": era}, n) for era, n in eras.items()]),
        ("harbourmaster_calls_in_flight", "gauge", "Calls now.", [({}, sum(len(c.calls) for c in clients))]),
        ("harbourmaster_servers", "gauge", "Servers that are served.", [({}, len(gateway.index.servers))]),
        ("harbourmaster_spares", "gauge", "Sandboxes that wait for somebody.", [({}, len(found["spares"]))]),
        ("process_resident_memory_bytes", "gauge", "Of the gateway itself.", [({}, _resident())]),
    ]
    families += [(f"harbourmaster_{n}", "gauge", told, [({}, float(found[n] or 0))]) for n, told in _GAUGES.items()]
    counters = [({"event": name}, float(n)) for name, n in found["counters"].items()]
    families.append(("harbourmaster_pool_events_total", "counter", "What the pool did.", counters))
    dropped = gateway.traces.dropped if gateway.traces is not None else 0
    families.append(("harbourmaster_spans_dropped_total", "counter", "Spans no collector took.", [({}, dropped)]))
    return families


def _resident() -> int:
    """Bytes, from /proc (Linux); 0 where there is none."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
