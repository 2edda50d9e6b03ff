"""Connections that go only where they may: resolve, check every address, connect to the one that was checked.

An HTTP/1.1 pool (httpcore2) over a network backend of ours.  No proxy, no redirect, no cookie, no decompression; TLS is
verified for the URL's host name, whatever address was dialled.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final

import httpcore2

from gateway.remote.errors import RemoteTooLarge, RemoteUnreachable
from gateway.remote.spec import checked_url
from sandbox.egress.dial import dial
from sandbox.egress.errors import EgressDenied
from sandbox.egress.resolver import Look, Resolver
from sandbox.egress.rules import Rule

CONNECT_S: Final = 10.0  # name look-up, TCP and TLS
WRITE_S: Final = 30.0  # a server that does not take our bytes
POOL_S: Final = 30.0  # until one of MAX_CONNECTIONS is free
GOODBYE_S: Final = 1.0  # until TLS is closed in good order
MAX_CONNECTIONS: Final = 256  # of one server: a session has one standing stream and its calls
KEEP_IDLE_S: Final = 60.0
_KEEPALIVE = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 15,
    "TCP_KEEPCNT": 4,
}  # a peer that is gone is found out in two minutes
KEEPALIVE: Final = [(getattr(socket, name), value) for name, value in _KEEPALIVE.items() if hasattr(socket, name)]

Headers = list[tuple[bytes, bytes]]
MayBePrivate = Callable[[str, int], bool]


def only(private: frozenset[str]) -> MayBePrivate:
    """Private addresses for exactly these ``host:port``."""
    return lambda host, port: f"{host}:{port}" in private


class Head:
    """Of a response.  ``header`` finds by lower-case name; of a repeated one, the first."""

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers

    def header(self, name: bytes) -> str:
        return next((v.decode("latin-1").strip() for k, v in self.headers if k.lower() == name), "")

    @property
    def kind(self) -> str:
        """The media type, without its parameters."""
        return self.header(b"content-type").partition(";")[0].strip().lower()


class Response(Head):
    def __init__(self, response: httpcore2.Response) -> None:
        super().__init__(response.status, list(response.headers))
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_stream():
            yield chunk

    async def body(self, limit: int) -> bytes:
        """All of it; raises ``RemoteTooLarge``."""
        taken = bytearray()
        async for chunk in self.chunks():
            taken += chunk
            if len(taken) > limit:
                raise RemoteTooLarge(f"the answer is over {limit} bytes", remedy="ask the server for less")
        return bytes(taken)


class Web:
    """HTTP requests to whoever may be reached.  ``may_be_private``: hosts whose address may be private or loopback."""

    def __init__(
        self,
        may_be_private: MayBePrivate,
        *,
        look: Look | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._backend = _Guarded(look or Resolver(), may_be_private)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls or ssl.create_default_context(),
            max_connections=MAX_CONNECTIONS,
            keepalive_expiry=KEEP_IDLE_S,
            network_backend=self._backend,
        )

    @contextlib.asynccontextmanager
    async def request(
        self, method: str, url: str, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"", *, read_s: float | None
    ) -> AsyncIterator[Response]:
        """``read_s``: how long the server may say nothing; None: for ever.

        Raises ``RemoteUnreachable``, the egress errors of ``dial``, ``RemoteInvalid`` and ``RemoteInsecure``.
        """
        checked_url(url)
        timeouts = {"connect": CONNECT_S, "write": WRITE_S, "pool": POOL_S, "read": read_s}
        sent = [*headers, (b"accept-encoding", b"identity"), (b"user-agent", b"harbourmaster")]
        try:
            async with self._pool.stream(
                method, url, headers=sent, content=body or None, extensions={"timeout": timeouts}
            ) as response:
                yield Response(response)
        except HTTP_ERRORS as e:
            raise RemoteUnreachable(
                f"{method} {url.partition('?')[0][:200]}: {_reason(e)}", remedy="is it up? try again"
            ) from e

    async def close(self) -> None:
        await self._pool.aclose()


HTTP_ERRORS = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)


def _reason(error: Exception) -> str:
    kind = type(error).__name__
    return f"{kind}: {error}"[:300] if str(error) else kind


class _Guarded(httpcore2.AsyncNetworkBackend):
    def __init__(self, look: Look, may_be_private: MayBePrivate) -> None:
        self._look = look
        self._may_be_private = may_be_private

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        name = host.strip("[]").lower().rstrip(".")
        rule = Rule(name, port, private=self._may_be_private(name, port))
        try:
            sock, _ = await dial(self._look, rule, name, port, timeout or CONNECT_S)
        except EgressDenied as e:
            raise type(e)(e.message, remedy=f"if that is meant, name {name}:{port} as private in the entry") from None
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            reader, writer = await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise
        return Stream(reader, writer)


class Stream(httpcore2.AsyncNetworkStream):
    """asyncio's streams as httpcore wants them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._goodbye: asyncio.Task[None] | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)
        except TimeoutError as e:
            raise httpcore2.ReadTimeout(f"nothing came for {timeout:g} s") from e
        except OSError as e:
            raise httpcore2.ReadError(str(e)) from e

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError as e:
            raise httpcore2.WriteTimeout(f"it took nothing for {timeout:g} s") from e
        except OSError as e:
            raise httpcore2.WriteError(str(e)) from e

    async def aclose(self) -> None:
        """A peer that does not say goodbye is waited for a moment; being cancelled meanwhile leaves the goodbye as it is."""
        if self._goodbye is None:
            self._writer.close()
            self._goodbye = asyncio.get_running_loop().create_task(self._closed())
        await asyncio.wait({self._goodbye}, timeout=GOODBYE_S)

    async def _closed(self) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            await self._writer.wait_closed()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        except TimeoutError as e:
            await self.aclose()
            raise httpcore2.ConnectTimeout("TLS took too long") from e
        except (OSError, ssl.SSLError, ValueError) as e:
            await self.aclose()
            raise httpcore2.ConnectError(str(e)) from e
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # an idle connection has nothing to say: the peer has closed it
            return self._reader.at_eof() or self._writer.is_closing()
        names = {"ssl_object": "ssl_object", "client_addr": "sockname", "server_addr": "peername", "socket": "socket"}
        return self._writer.get_extra_info(names[info]) if info in names else None
