"""Running the edges: uvicorn for HTTP, our own pipes for stdio; signals, the bound address, a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import uvicorn

from gateway.edges.exchange import QuickProtocol
from gateway.edges.guard import Guard
from gateway.edges.http import HttpEdge
from gateway.edges.patience import look_at
from gateway.edges.sse import SseEdge
from gateway.edges.stdio import StdioEdge
from gateway.gateway import Gateway
from gateway.limits import LIMITS
from gateway.profiles.view import DEFAULT
from harbourmaster.core.errors import UnavailableError, UsageError
from harbourmaster.core.settings import Settings

if TYPE_CHECKING:
    from gateway.authorization.oauth import OAuth

BACKLOG = 1024
SWITCH_S = 0.0005  # how long the audit's thread may keep the interpreter from the loop (default: 5 ms)
SETTLED_S = 10.0  # after the start nothing large is loaded any more (gateway.gateway.AHEAD_S)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TICKS_PER_S = 10  # uvicorn's
SHUTDOWN_S = 3  # how long answers in flight may take once we are told to stop


class AddressInUse(UnavailableError):
    code = "gateway.address_in_use"


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any.  Raises ``AddressInUse``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as e:
        sock.close()
        raise AddressInUse(
            f"cannot listen on {host}:{port}: {e.strerror}", remedy="stop what listens there, or choose another --port"
        ) from e
    return sock


class HttpServer(uvicorn.Server):
    """uvicorn, which has the gateway answer whatever is in flight when it is told to stop, so that nobody waits."""

    def __init__(self, gateway: Gateway, settings: Settings, *, sse: bool = False) -> None:
        self._oauth = _oauth(settings)
        hosts, origins = settings.gateway_allowed_hosts, settings.gateway_allowed_origins
        guard = Guard(gateway.tokens, hosts, origins, self._oauth)
        config = uvicorn.Config(
            (SseEdge if sse else HttpEdge)(gateway, guard),
            loop="none",
            http=QuickProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        super().__init__(config)
        self._gateway = gateway
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_PER_S == 0:
            look_at(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.gather(self._gateway.wind_down(), super().shutdown(sockets))
        if self._oauth is not None:
            await self._oauth.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: uvicorn would raise them again before the sandboxes are gone."""
        yield


def _oauth(settings: Settings) -> OAuth | None:
    if not settings.oauth:
        return None
    from gateway.authorization.oauth import OAuth, OAuthConfig  # and with them an HTTP client and cryptography

    config = OAuthConfig.read(settings.oauth)
    return OAuth(config) if config is not None else None


@contextlib.asynccontextmanager
async def http_server(
    gateway: Gateway, settings: Settings, sock: socket.socket, *, sse: bool = False
) -> AsyncIterator[asyncio.Task[None]]:
    """Serve in the background of the running loop; the task ends early only if the server fails.

    ``sse``: ``/sse`` for old clients beside ``/mcp``.
    """
    server = HttpServer(gateway, settings, sse=sse)
    serving = asyncio.get_running_loop().create_task(server.serve(sockets=[sock]))
    try:
        await server.listening.wait()
        yield serving
    finally:
        server.should_exit = True
        await serving


def collect_less() -> None:
    """What is there when serving begins stays, and so does what is loaded soon after: the collector need not walk through it
    again, which takes tens of milliseconds with thousands of tools."""
    gc.freeze()
    gc.enable()
    asyncio.get_running_loop().call_later(SETTLED_S, gc.freeze)


async def run_http(gateway: Gateway, settings: Settings, sock: socket.socket, *, sse: bool = False) -> None:
    """Serve until a signal."""
    sys.setswitchinterval(SWITCH_S)
    collect_less()
    told = told_to_stop()
    async with http_server(gateway, settings, sock, sse=sse) as serving:
        await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()


def told_to_stop() -> asyncio.Task[Any]:
    """Ends at SIGTERM, SIGINT or SIGHUP; a second signal ends the process as it would have without us."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        told.set()
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    for number in SIGNALS:
        loop.add_signal_handler(number, stop)
    return loop.create_task(told.wait())


class Lines(asyncio.Protocol):
    """Cuts what comes in into lines; one that is too long is reported once and skipped."""

    def __init__(self, on_line: Callable[[bytes], None], on_too_long: Callable[[], None]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_line = on_line
        self._on_too_long = on_too_long
        self._partial = bytearray()
        self._skipping = False

    def data_received(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for line in whole:
            self._line(line)
        if not self._skipping:
            self._partial += rest
        if len(self._partial) > LIMITS.body_bytes:
            self._partial.clear()
            self._skipping = True
            self._on_too_long()

    def _line(self, line: bytes) -> None:
        if self._partial:
            line = bytes(self._partial) + line
            self._partial.clear()
        if not self._skipping:
            self._on_line(line)
        self._skipping = False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class _Out(asyncio.BaseProtocol):
    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def run_stdio(gateway: Gateway, profile: str = DEFAULT) -> None:
    """Serve the one client on our stdin and stdout until it leaves, stops reading, or a signal comes.

    ``print`` goes to stderr from here on: a stray line on stdout would break the client's stream.
    """
    view = gateway.view(profile)
    loop = asyncio.get_running_loop()
    collect_less()
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    told = told_to_stop()
    stuck: asyncio.Future[None] = loop.create_future()
    try:
        writer, out = await loop.connect_write_pipe(_Out, stdout)

        def write(message: bytes) -> None:
            if writer.get_write_buffer_size() > LIMITS.backlog_bytes and not stuck.done():
                stuck.set_result(None)
            writer.write(message)

        edge = StdioEdge(gateway, write, view)
        reader, lines = await loop.connect_read_pipe(lambda: Lines(edge.line, edge.too_long), stdin)
    except ValueError as e:
        raise UsageError("stdin and stdout must be pipes", remedy="let an MCP client start this") from e
    await asyncio.wait({lines.ended, told, stuck}, return_when=asyncio.FIRST_COMPLETED)
    await edge.finish(patient=lines.ended.done())
    told.cancel()
    reader.close()
    writer.close()
    await asyncio.wait({out.closed}, timeout=SHUTDOWN_S)  # until what was said is out
