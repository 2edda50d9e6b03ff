"""What runs now, as JSON for the operator: sessions, leases, spares, counters."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from gateway.leases import Leases
from gateway.pool_lease import Lease
from gateway.sessions import Session

if TYPE_CHECKING:
    from gateway.gateway import Gateway
    from gateway.modern import ModernClient

# Shown even while they are 0, so that whoever draws them need not guess which there are.
COUNTERS = (
    "cold_starts",
    "warm_hits",
    "failed_starts",
    "spares_made",
    "spares_dropped",
    "evictions",
    "idle_stops",
    "crashes",
    "retries",
)


def status(gateway: Gateway) -> dict[str, Any]:
    now = asyncio.get_running_loop().time()
    clients = gateway.clients()
    return {
        "gateway": {"pid": os.getpid(), "uptime_s": round(now - gateway.began, 1), "now": round(time.time(), 3)},
        "sessions": [_client(client, now) for client in clients],
        "leases": [_lease(lease, gateway.leases, now) for lease in gateway.leases],
        "pool": pool(gateway.leases, now),
    }


def pool(leases: Leases, now: float) -> dict[str, Any]:
    places = leases.places
    counters = {name: leases.counters[name] for name in COUNTERS}
    return {
        "memory_mb": round(leases.memory_mb(), 1),
        "memory_budget_mb": leases.budget_mb,
        "sandboxes": places.taken,
        "max_sandboxes": places.caps.total,
        "max_sandboxes_per_server": places.caps.per_server,
        "waiting": places.waiting,
        "counters": {**counters, "queued": places.queued, "refused": places.refused},
        "spares": [
            {
                "server": spare.server.name,
                "sandbox": spare.upstream.sandbox_id,
                "client": str(spare.nobody.client_info.get("name", ""))[:200],
                "ready": spare.ready,
                "age_s": round(now - spare.made, 1),
            }
            for spare in leases.pool
        ],
    }


def _client(client: Session | ModernClient, now: float) -> dict[str, Any]:
    info = client.client_info
    return {
        "session": client.label,
        "era": "modern" if client.modern else "handshake",
        "principal": client.principal.name,
        "profile": client.view.name,
        "client": {key: str(info.get(key, ""))[:200] for key in ("name", "version")},
        "revision": client.version,
        "idle_s": round(now - client.used, 1),
        "calls": len(client.calls),
        "servers": sorted(client.leases),
    }


def _lease(lease: Lease, leases: Leases, now: float) -> dict[str, Any]:
    return {
        "server": lease.server.name,
        "sandbox": lease.upstream.sandbox_id,
        "session": lease.holder.label,
        "kind": lease.kind,
        "ready": lease.ready,
        "busy": lease.busy,
        "uses": lease.uses,
        "idle_s": round(now - lease.used, 1),
        "memory_mb": round(leases.footprints.of(lease.server.name), 1),
    }
