"""A gateway in a process of its own, with the hostile server and a well-behaved one enabled as any entry would be.

``python -m tests.escape.harbour HOSTILE_IMAGE ECHO_IMAGE`` prints its address and token, and serves until told to stop.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop

from gateway.gateway import Gateway
from gateway.serve import bind, run_http
from gateway.tokens import TokenStore
from harbourmaster.compose import starter
from harbourmaster.core.audit import AuditLog
from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from tests.escape.cases import TOOLS
from tests.gateway.harness import Admitted, locked
from tests.gateway.live import ECHO_LISTING

# Smaller than an entry's defaults, so that every bomb goes off soon and costs the machine little.
LIMITS: dict[str, int | float] = {"memory_mb": 96, "tmp_mb": 16, "file_mb": 8, "pids": 32, "nofile": 128, "cpus": 0.5}
SLOW = LIMITS | {"cpus": 0.1}  # less than even a busy machine gives, so that this limit is what holds it back


def listing(*tools: str) -> dict[str, Any]:
    offered = [{"name": name, "description": name, "inputSchema": {"type": "object"}} for name in tools]
    return ECHO_LISTING | {"serverInfo": {"name": "hostile", "version": "1"}, "tools": offered}


async def serve(hostile: str, echo: str) -> None:
    settings = Settings.load(call_timeout_s=3.0, pool_spares=0)  # what runs is what was asked for
    sock = bind("127.0.0.1", 0)
    audit = AuditLog(settings.audit_dir)
    engine = await asyncio.to_thread(Engine.connect, settings)
    profile = Profile.load()
    servers = {
        name: locked(
            name, said, image_id=hostile, profile=profile.digest, run={"limits": limits, "command": [which, "cpu_hog"]}
        )
        for name, said, limits, which in (
            ("hostile", listing(*(tool for tool in TOOLS if tool != "cpu_hog")), LIMITS, "without"),
            ("slow", listing("cpu_hog"), SLOW, "only"),
        )
    } | {
        "echo": locked("echo", ECHO_LISTING, image_id=echo, profile=profile.digest),
    }
    gateway = Gateway(
        settings,
        servers,
        admit=lambda name: Admitted(servers[name].image, servers[name].image_id),
        start=starter(engine, profile, audit.append),
        append=audit.append,
        tokens=TokenStore(settings.tokens_file),
    )
    async with gateway:
        print(f"http://127.0.0.1:{sock.getsockname()[1]}/mcp", gateway.tokens.default(), flush=True)
        await run_http(gateway, settings, sock)
    await asyncio.to_thread(engine.close)
    await asyncio.to_thread(audit.close)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2]))
