"""Running the edges: uvicorn for HTTP, our own pipes for stdio; signals, the bound address, a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn

from gateway.edges.guard import Guard
from gateway.edges.http import HttpEdge
from gateway.edges.stdio import serve_stdio
from gateway.gateway import Gateway
from gateway.limits import LIMITS
from harbourmaster.core.errors import UnavailableError
from harbourmaster.core.settings import Settings

BACKLOG = 1024
KEEP_ALIVE_S = 75  # idle connections; MCP clients pause between calls
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
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

    def __init__(self, gateway: Gateway, settings: Settings) -> None:
        guard = Guard(gateway.tokens, settings.gateway_allowed_hosts, settings.gateway_allowed_origins)
        config = uvicorn.Config(
            HttpEdge(gateway, guard),
            loop="none",
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        super().__init__(config)
        self._gateway = gateway
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.gather(self._gateway.wind_down(), super().shutdown(sockets))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: uvicorn would raise them again before the sandboxes are gone."""
        yield


@contextlib.asynccontextmanager
async def http_server(gateway: Gateway, settings: Settings, sock: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """Serve in the background of the running loop; the task ends early only if the server fails."""
    server = HttpServer(gateway, settings)
    serving = asyncio.get_running_loop().create_task(server.serve(sockets=[sock]))
    try:
        await server.listening.wait()
        yield serving
    finally:
        server.should_exit = True
        await serving


async def run_http(gateway: Gateway, settings: Settings, sock: socket.socket) -> None:
    """Serve until a signal."""
    told = told_to_stop()
    async with http_server(gateway, settings, sock) as serving:
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


async def stdio_pipes() -> tuple[asyncio.StreamReader, Callable[[bytes], None]]:
    """Our stdin as lines, and a write to our stdout that never blocks the loop.

    ``print`` goes to stderr from here on: a stray line on stdout would break the client's stream.
    """
    loop = asyncio.get_running_loop()
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    reader = asyncio.StreamReader(limit=LIMITS.body_bytes + 2)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stdin)
    transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, stdout)
    return reader, transport.write


async def run_stdio(gateway: Gateway) -> None:
    """Serve the one client on our stdin and stdout until it leaves, or a signal."""
    reader, write = await stdio_pipes()
    told = told_to_stop()
    serving = asyncio.get_running_loop().create_task(serve_stdio(gateway, _lines(reader), write))
    await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _lines(reader: asyncio.StreamReader) -> Any:
    async def read_line() -> bytes:
        try:
            return await reader.readline()
        except ValueError:  # longer than a message may be: the edge refuses what it gets, the rest is skipped
            return b" " * (LIMITS.body_bytes + 1)

    return read_line
