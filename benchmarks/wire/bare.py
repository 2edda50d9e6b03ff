"""The floor: HTTP in, one sandbox's stdio out, the id swapped on the way; no authentication, policy, audit or sessions.

``python -m benchmarks.wire.bare IMAGE_ID PORT``: what any Python pass-through on this stack pays at the least.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

import orjson
import uvicorn
import uvloop

from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec

HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bare", "version": "0"}}


class Bare:
    def __init__(self) -> None:
        self.box: Sandbox | None = None
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.last = 0

    def on_line(self, line: bytes) -> None:
        body = orjson.loads(line)
        self.waiting.pop(body["id"]).set_result(body)

    async def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        assert self.box is not None
        self.last += 1
        body["id"] = self.last
        answer = self.waiting[self.last] = asyncio.get_running_loop().create_future()
        self.box.write(orjson.dumps(body) + b"\n")
        return await answer  # type: ignore[no-any-return]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raw = b""
        more = True
        while more:
            message = await receive()
            raw += message.get("body", b"")
            more = message.get("more_body", False)
        body = orjson.loads(raw)
        client_id = body["id"]
        answer = await self.ask(body)
        answer["id"] = client_id
        out = orjson.dumps(answer)
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(out))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": out})


class Server(uvicorn.Server):
    """Ends at SIGTERM without raising it again, so that its sandbox can be stopped."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.handle_exit, signal.SIGTERM, None)
        yield


async def serve(image_id: str, port: int) -> None:
    settings = Settings.load()
    engine = Engine.connect(settings)
    bare = Bare()
    spec = SandboxSpec(server="bare", image_id=image_id)
    bare.box = await Sandbox.start(engine, Profile.load(), spec, on_line=bare.on_line, on_exit=lambda exit: None)
    await bare.ask({"jsonrpc": "2.0", "method": "initialize", "params": HELLO})
    config = uvicorn.Config(
        bare, host="127.0.0.1", port=port, loop="none", lifespan="off", log_config=None, access_log=False
    )
    server = Server(config)
    print(f"http://127.0.0.1:{port}/mcp -", flush=True)
    try:
        await server.serve()
    finally:
        await bare.box.stop()
        engine.close()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
