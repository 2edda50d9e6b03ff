"""The gateway with everything on, serving the echo image: papers verified, verdicts cached, policies, audit on disk.

``python -m benchmarks.wire.live IMAGE_ID PORT`` serves until told to stop and prints its address and token.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys

import uvloop

from benchmarks.wire.papers import papered, target, verifier
from gateway.gateway import Gateway
from gateway.serve import bind, run_http
from gateway.tokens import TokenStore
from harbourmaster.compose import reaped, starter
from harbourmaster.core.audit_process import AuditProcess
from harbourmaster.core.settings import Settings
from registry.admit import Admitter
from sandbox.engine import Engine
from sandbox.profile import Profile
from tests.gateway.live import ECHO_LISTING, echo_server


async def serve(image_id: str, port: int) -> None:
    settings = Settings.load()
    sock = bind("127.0.0.1", port)
    audit = AuditProcess(settings.audit_dir)
    engine = await asyncio.to_thread(Engine.connect, settings)
    await reaped(engine, audit)
    profile = Profile.load()
    digest = await asyncio.to_thread(papered, settings, engine, image_id, ECHO_LISTING)
    server = dataclasses.replace(echo_server("echo", image_id, profile), image=digest)
    gateway = Gateway(
        settings,
        {"echo": server},
        admit=Admitter(settings, verifier(settings, engine), audit, target).admit,
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
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
