"""A gateway over real sandboxes with real secrets, as a program of its own whose log is a file.

``python -m tests.secrets.gateway_process IMAGE_ID`` serves ``alpha`` (one secret as a variable, one as a file) and ``beta``
(one of its own), prints its address and token, and logs everything it can to stderr.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop

from gateway.gateway import Gateway
from gateway.serve import bind, run_http
from gateway.tokens import TokenStore
from harbourmaster.compose import delivering, starter
from harbourmaster.core import logs
from harbourmaster.core.audit import AuditLog
from harbourmaster.core.secrets import DeclaredSecret
from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from tests.gateway.harness import Admitted, locked
from tests.gateway.live import ECHO_LISTING

# The file's content moves into a variable that the echo server's `env` tool can show.
READS_FILE = ["/bin/sh", "-c", 'IFS= read -r FROM_FILE <"$KEY_FILE"; export FROM_FILE; exec /server']
# Chatter that is no message, with the secret across the place where the log cuts it; then the server.
CHATTERS = ["/bin/sh", "-c", 'printf "%065d%s\\n" 0 "$TOKEN"; exec /server']
RUNS: dict[str, dict[str, Any]] = {
    "alpha": {"command": READS_FILE, "secrets": [DeclaredSecret("alpha.key", "KEY", as_file=True).as_dict()]},
    "beta": {"command": CHATTERS, "secrets": [DeclaredSecret("token", "TOKEN").as_dict()]},
    "gamma": {"command": ["/server"], "secrets": [DeclaredSecret("token", "TOKEN").as_dict()]},
}


async def serve(image_id: str) -> None:
    settings = Settings.load(secrets_backend="age")
    sock = bind("127.0.0.1", 0)
    audit = AuditLog(settings.audit_dir)
    engine = await asyncio.to_thread(Engine.connect, settings)
    profile = Profile.load()
    servers = {
        name: locked(name, ECHO_LISTING, image_id=image_id, profile=profile.digest, run=run)
        for name, run in RUNS.items()
    }
    gateway = Gateway(
        settings,
        servers,
        admit=lambda name: Admitted(servers[name].image, image_id),
        start=starter(engine, profile, audit.append, secrets=delivering(settings)),
        append=audit.append,
        tokens=TokenStore(settings.tokens_file),
    )
    async with gateway:
        print(f"http://127.0.0.1:{sock.getsockname()[1]}/mcp", gateway.tokens.default(), flush=True)
        await run_http(gateway, settings, sock)
    await asyncio.to_thread(engine.close)
    await asyncio.to_thread(audit.close)


if __name__ == "__main__":
    logs.configure("debug")
    uvloop.run(serve(sys.argv[1]))
