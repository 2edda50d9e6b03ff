"""A gateway over subprocesses instead of containers, and raw HTTP to talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.gateway import Gateway
from gateway.lock import LockedServer, pin_of
from gateway.principals import Principal
from gateway.profiles.files import ProfileFiles
from gateway.serve import bind, http_server
from gateway.tokens import TokenStore
from harbourmaster.core.digests import sha256
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from tests.gateway import backend

BACKEND = Path(backend.__file__)


@dataclass(frozen=True)
class Exit:
    status: int | None
    oom: bool = False
    stderr: str = ""
    reason: str = ""
    limit: Any = None


class ProcessSandbox:
    """The sandbox interface over a subprocess."""

    def __init__(self, process: asyncio.subprocess.Process, on_line: Any, on_exit: Any) -> None:
        self.id = self.name = f"process-{process.pid}"
        self.process = process
        self._reader = asyncio.get_running_loop().create_task(self._read(on_line, on_exit))

    async def _read(self, on_line: Any, on_exit: Any) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            on_line(line.rstrip(b"\n"))
        on_exit(Exit(await self.process.wait()))

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)

    async def drain(self) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.drain()

    def stderr_tail(self) -> str:
        return ""

    def limit_in(self, text: str) -> None:
        """Processes have no limits."""

    async def starved(self, waited_s: float) -> None:
        """Nor this one."""

    async def memory_mb(self) -> float | None:
        """Nothing to count."""
        return None

    async def stop(self, *, grace_s: float = 2.0) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self._reader
        assert self.process.stdin is not None
        self.process.stdin.close()
        with contextlib.suppress(ConnectionError):
            await self.process.stdin.wait_closed()


@dataclass(frozen=True)
class Admitted:
    image: str
    image_id: str


@dataclass
class World:
    """What a test gateway is made of; tests change parts of it."""

    servers: dict[str, LockedServer]
    records: list[dict[str, Any]] = field(default_factory=list)
    started: list[ProcessSandbox] = field(default_factory=list)
    refuse: Exception | None = None  # what admission raises
    audit_error: HarbourError | None = None
    changed: dict[str, LockedServer] | None = None  # what a reload yields
    secrets: str = ""  # what a start depends on beside the image
    options: dict[str, Any] = field(default_factory=dict)  # of the gateway, beside these

    def admit(self, name: str) -> Admitted:
        if self.refuse is not None:
            raise self.refuse
        return Admitted(self.servers[name].image, self.servers[name].image_id)

    async def stamp(self, server: LockedServer) -> str:
        return self.secrets

    def append(self, record: dict[str, Any]) -> None:
        if self.audit_error is not None:
            raise self.audit_error
        self.records.append(record)

    def reload(self) -> dict[str, LockedServer] | None:
        changed, self.changed = self.changed, None
        return changed

    async def start(self, server: LockedServer, admitted: Any, on_line: Any, on_exit: Any) -> ProcessSandbox:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-S",
            "-E",
            str(BACKEND),
            "--name",
            server.name,
            *server.run.get("command", ()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=1 << 24,
        )
        box = ProcessSandbox(process, on_line, on_exit)
        self.started.append(box)
        return box

    @property
    def running(self) -> int:
        return sum(box.process.returncode is None for box in self.started)

    def calls(self) -> list[dict[str, Any]]:
        return [r for r in self.records if r["kind"] == "call"]


def locked(name: str, listing: dict[str, Any] | None = None, **more: Any) -> LockedServer:
    said = backend.listing(name) if listing is None else listing
    fields: dict[str, Any] = {
        "tier": "built",
        "version": "1",
        "image": sha256(b"image" + name.encode()),
        "image_id": sha256(b"id" + name.encode()),
        "signer": "key:test",
        "sbom": "",
        "profile": "",
        "enabled": True,
        "run": {"command": ["--modern"]} if said["protocolVersion"] == "2026-07-28" else {},
    }
    return LockedServer(name=name, listing=said, pin=pin_of(said), **{**fields, **more})


@contextlib.asynccontextmanager
async def running(settings: Settings, world: World) -> AsyncIterator[Gateway]:
    gateway = Gateway(
        settings,
        world.servers,
        admit=world.admit,
        start=world.start,
        stamp=world.stamp,
        append=world.append,
        tokens=TokenStore(settings.tokens_file),
        reload=world.reload,
        profiles=ProfileFiles(settings.profiles_dir),
        **world.options,
    )
    async with gateway:
        yield gateway
    assert world.running == 0, "a sandbox outlived its gateway"


def operator(gateway: Gateway) -> Principal:
    """Whose the default token is."""
    found = gateway.tokens.principal(gateway.tokens.default().encode())
    assert found is not None
    return found


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        return [json.loads(line[6:]) for line in self.body.splitlines() if line.startswith(b"data: {")]


class Http:
    """Raw requests to one gateway; every one on a connection of its own."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self.token = token
        self.url = f"http://127.0.0.1:{port}/mcp"
        self.path = "/mcp"

    def at(self, profile: str, token: str = "") -> Http:
        """The same gateway under another profile's path."""
        other = Http(self.port, token or self.token)
        other.path = f"/mcp/{profile}"
        return other

    def headers(self, **changes: str | None) -> dict[str, str]:
        base: dict[str, str | None] = {
            "Host": f"127.0.0.1:{self.port}",
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }
        base.update({k.replace("_", "-"): v for k, v in changes.items()})
        return {k: v for k, v in base.items() if v is not None}

    async def open(self, head: str, body: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head.encode() + body)
        return reader, writer

    @contextlib.asynccontextmanager
    async def events(
        self, method: str = "POST", body: Any = None, **changes: str | None
    ) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
        """A request whose events are read one by one; leaving closes the connection."""
        raw = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Length": str(len(raw)), **self.headers(**changes)}
        head = [f"{method} {self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        reader, writer = await self.open("\r\n".join(head) + "\r\n\r\n", raw)

        async def following() -> Any:
            while True:
                line = await reader.readline()
                assert line, "the stream ended early"
                if line.startswith(b"data: {"):  # a stream's first event may have none
                    return json.loads(line[6:])

        try:
            yield following
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def request(
        self,
        method: str = "POST",
        path: str = "",
        body: Any = None,
        lines: tuple[str, ...] = (),
        **changes: str | None,
    ) -> Response:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Length": str(len(raw)), **self.headers(**changes), "Connection": "close"}
        head = [f"{method} {path or self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), *lines]
        reader, writer = await self.open("\r\n".join(head) + "\r\n\r\n", raw)
        try:
            return _response(await reader.read())
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def initialize(self, version: str = "2025-11-25", capabilities: Any = None, **changes: str | None) -> str:
        """A handshake; the session id."""
        params = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "raw", "version": "0"},
        }
        response = await self.request(body=rpc("initialize", params, 0), **changes)
        assert response.status == 200, response
        return response.headers["mcp-session-id"]

    async def call(
        self, session: str, method: str, params: Any = None, request_id: Any = 1, **changes: str | None
    ) -> Any:
        response = await self.request(body=rpc(method, params, request_id), Mcp_Session_Id=session, **changes)
        assert response.status == 200, response
        if response.headers["content-type"] == "text/event-stream":
            events = response.events
            return events[0] if len(events) == 1 else events  # a slow call's answer alone: a stream of one message
        return response.json

    async def modern(self, method: str, params: Any = None, request_id: Any = 1, **changes: str | None) -> Response:
        body = rpc(method, enveloped(params or {}), request_id)
        name = body["params"].get("name", body["params"].get("uri"))
        routing = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": name, **changes}
        return await self.request(body=body, **routing)


def rpc(method: str, params: Any = None, request_id: Any = 1) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": request_id, "method": method}
    return body if params is None else {**body, "params": params}


def tool_call(name: str, arguments: Any = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments or {}, **more}


def enveloped(params: dict[str, Any], capabilities: Any = None, **meta: Any) -> dict[str, Any]:
    prefix = "io.modelcontextprotocol/"
    envelope = {
        prefix + "protocolVersion": "2026-07-28",
        prefix + "clientInfo": {"name": "raw", "version": "0"},
        prefix + "clientCapabilities": capabilities or {},
    }
    return {**params, "_meta": {**envelope, **params.get("_meta", {}), **meta}}


def _response(raw: bytes) -> Response:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in rest)}
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunk(body)
    return Response(int(first.split(" ")[1]), headers, body)


def _unchunk(body: bytes) -> bytes:
    out = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        count = int(size, 16)
        if count == 0:
            return out
        out, body = out + rest[:count], rest[count + 2 :]
    return out


@contextlib.asynccontextmanager
async def serving(settings: Settings, world: World) -> AsyncIterator[tuple[Gateway, Http]]:
    async with running(settings, world) as gateway:
        sock = bind("127.0.0.1", 0)
        port = sock.getsockname()[1]
        token = gateway.tokens.default()
        async with http_server(gateway, settings, sock):
            yield gateway, Http(port, token)


async def until(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Wait for something that happens soon, with a limit that only a failure reaches."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{what} did not come about")
