"""Servers that run elsewhere, for tests: a scripted HTTP server that says anything, and gateways that serve them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.gateway import Gateway
from gateway.lock import LockedServer, pin_of
from gateway.remote.box import Credentials, FixedHeaders
from gateway.remote.net import Web
from gateway.remote.spec import OAuthSpec, RemoteSpec
from gateway.remote.start import Remotes, either
from gateway.serve import bind, http_server
from gateway.tokens import TokenStore
from harbourmaster.core.secrets import DeclaredSecret, Delivery
from harbourmaster.core.secrets.delivery import delivery_of
from harbourmaster.core.settings import Settings
from tests.gateway.harness import Admitted, Http, World

LISTING: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "serverInfo": {"name": "far", "version": "1"},
    "capabilities": {"tools": {}},
    "tools": [{"name": "echo", "inputSchema": {"type": "object"}}],
}
MODERN_LISTING: dict[str, Any] = {**LISTING, "protocolVersion": "2026-07-28"}
TOKEN = DeclaredSecret("token", "TOKEN")


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw) if self.raw else None

    @property
    def rpc(self) -> str:
        """The JSON-RPC method, or empty."""
        return str((self.body or {}).get("method", ""))


class Reply:
    """Where a script says what it answers."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, status: int, body: Any = b"", kind: str = "application/json", **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.head(status, {"Content-Type": kind, "Content-Length": str(len(raw)), **headers})
        self._writer.write(raw)
        await self._writer.drain()

    def head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} X", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
        self._writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")

    async def events(self, *events: bytes, **headers: str) -> None:
        """The head of an event stream, and some of it; more with ``more``, the end with ``cut``."""
        self.head(200, {"Content-Type": "text/event-stream", "Connection": "close", **headers})
        await self.more(*events)

    async def more(self, *events: bytes) -> None:
        self._writer.write(b"".join(events))
        await self._writer.drain()

    def cut(self) -> None:
        self._writer.close()


Script = Callable[[Request, Reply], Awaitable[None]]


def said(body: Any, event_id: str = "", retry: int | None = None) -> bytes:
    """One event."""
    lines = [f"id: {event_id}"] if event_id else []
    lines += [f"retry: {retry}"] if retry is not None else []
    return ("\n".join([*lines, f"data: {json.dumps(body) if body is not None else ''}"]) + "\n\n").encode()


def result(request: Request, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request.body["id"], "result": more}


@dataclass
class Elsewhere:
    """A scripted server on loopback; ``seen``: every request."""

    script: Script
    port: int = 0
    seen: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def asked(self, rpc: str) -> list[Request]:
        return [r for r in self.seen if r.rpc == rpc]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Elsewhere]:
        open_: set[asyncio.StreamWriter] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            open_.add(writer)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while not writer.is_closing():
                    request = await _read(reader)
                    self.seen.append(request)
                    await self.script(request, Reply(writer))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in open_:
                writer.close()
            await server.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
    return Request(method, path, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


def greeting(handler: Script) -> Script:
    """A handshake server that answers its handshake, lists one tool, and leaves the rest to ``handler``."""

    async def script(request: Request, reply: Reply) -> None:
        if request.rpc == "initialize":
            version = request.body["params"]["protocolVersion"]
            about = {k: v for k, v in LISTING.items() if k in ("serverInfo", "capabilities")}
            await reply.send(200, result(request, protocolVersion=version, **about), Mcp_Session_Id="s1")
        elif request.rpc == "tools/list":
            await reply.send(200, result(request, tools=LISTING["tools"]))
        elif request.rpc.startswith("notifications/"):
            await reply.send(202)
        elif request.method == "DELETE":
            await reply.send(204)
        elif request.method == "GET" and "last-event-id" not in request.headers:
            await reply.send(405)
        else:
            await handler(request, reply)

    return script


def remote(
    url: str,
    listing: dict[str, Any] | None = None,
    *,
    name: str = "far",
    transport: str = "streamable-http",
    headers: dict[str, str] | None = None,
    private: bool = True,
    oauth: OAuthSpec | None = None,
) -> LockedServer:
    """A line of the lock for a server at ``url``."""
    spec = RemoteSpec(url, transport, headers or {}, oauth=oauth)  # type: ignore[arg-type]
    body = spec.as_dict() | ({"private": [spec.host]} if private else {})
    said = listing or LISTING
    run = {"remote": body, "secrets": [TOKEN.as_dict()] if headers else []}
    return LockedServer(name, "remote", "1", "", "", "", "", "", pin_of(said), True, said, run)


def anonymous(name: str, spec: RemoteSpec, web: Web) -> Credentials:
    return FixedHeaders(name, [])


@contextlib.asynccontextmanager
async def serving_remotes(
    settings: Settings,
    *servers: LockedServer,
    token: str = "",
    login: Callable[[str, RemoteSpec, Web], Credentials] = anonymous,
    world: World | None = None,
    sse: bool = False,
    **more: Any,
) -> AsyncIterator[tuple[Gateway, Http]]:
    """A gateway whose servers are elsewhere (and those of ``world`` in processes)."""
    world = world or World({})
    delivery = delivery_of({TOKEN: token}) if token else Delivery()
    remotes = Remotes(lambda server: delivery, login, world.append, **more)
    gateway = Gateway(
        settings,
        {**world.servers, **{s.name: s for s in servers}},
        admit=lambda name: Admitted("", "") if name not in world.servers else world.admit(name),
        start=either(world.start, remotes),
        append=world.append,
        tokens=TokenStore(settings.tokens_file),
    )
    async with gateway:
        sock = bind("127.0.0.1", 0)
        port, token = sock.getsockname()[1], gateway.tokens.default()
        async with http_server(gateway, settings, sock, sse=sse):
            yield gateway, Http(port, token)
    await remotes.close()
