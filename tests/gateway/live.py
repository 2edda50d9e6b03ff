"""A gateway over real sandboxes of the echo image, as a program of its own: for crash tests and benchmarks.

``python -m tests.gateway.live IMAGE_ID PORT [NAME ...]`` serves until told to stop and prints its address and token.
Admission is the one part left out: it is tested where it lives, and here any image may run.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop

from gateway.gateway import Gateway
from gateway.lock import LockedServer
from gateway.serve import bind, run_http
from gateway.tokens import TokenStore
from harbourmaster.compose import reaped, starter
from harbourmaster.core.audit_process import AuditProcess
from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from tests.gateway.harness import Admitted, locked

_NUMBER = {"type": "integer"}
_TEXT = {"properties": {"text": {"type": "string"}}, "required": ["text"]}


def _tool(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": {"type": "object", **schema}}


ECHO_LISTING: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "serverInfo": {"name": "echo", "version": "1"},
    "capabilities": {"tools": {}},
    "tools": [
        _tool("echo", "Return the text", _TEXT),
        _tool("sleep", "Wait, then answer", {"properties": {"ms": _NUMBER}, "required": ["ms"]}),
        _tool(
            "crash", "Exit with a status, or die by a signal", {"properties": {"status": _NUMBER, "signal": _NUMBER}}
        ),
        _tool("big", "Return n bytes", {"properties": {"n": _NUMBER}, "required": ["n"]}),
        _tool("stderr", "Write the text to stderr", _TEXT),
        _tool(
            "env", "Return an environment variable", {"properties": {"name": {"type": "string"}}, "required": ["name"]}
        ),
    ],
}


def echo_server(name: str, image_id: str, profile: Profile) -> LockedServer:
    return locked(name, ECHO_LISTING, image_id=image_id, profile=profile.digest)


async def serve(image_id: str, port: int, names: list[str]) -> None:
    settings = Settings.load()
    sock = bind("127.0.0.1", port)
    audit = AuditProcess(settings.audit_dir)
    engine = await asyncio.to_thread(Engine.connect, settings)
    await reaped(engine, audit)
    profile = Profile.load()
    servers = {name: echo_server(name, image_id, profile) for name in names}
    gateway = Gateway(
        settings,
        servers,
        admit=lambda name: Admitted(servers[name].image, image_id),
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
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3:] or ["echo"]))
