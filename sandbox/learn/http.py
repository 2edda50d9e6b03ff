"""HTTP/1.1 as a learning run needs it: answer a client from a recording, or from its host while writing down both.

The parsing is h11's; here is only who reads and who writes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import h11

from sandbox.learn.errors import NotReplayed, TooLarge
from sandbox.learn.recording import MAX_BODY, Exchange, Header

READ = 64 * 1024
# About one connection, or about how the body was cut; what is sent from a recording is whole
_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "proxy-connection", "upgrade", "te"}
)

Request = tuple[str, str, tuple[Header, ...], bytes]  # method, target, headers, body
Answer = Callable[[Request], Awaitable[Exchange]]


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> tuple[int, int]:
    """Answer requests until the client ends; (requests answered, requests that had no answer)."""
    connection = h11.Connection(h11.SERVER)
    answered = missing = 0
    while (request := await _request(connection, reader)) is not None:
        try:
            exchange = await answer(request)
            answered += 1
        except NotReplayed as e:
            missing += 1
            words = f"{e.code}: {e.message}\n".encode()
            exchange = Exchange("", 0, request[0], request[1], 502, (("Content-Type", "text/plain"),), words)
        _send(connection, writer, exchange, head=request[0] == "HEAD")
        await writer.drain()
        if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
            break
        connection.start_next_cycle()
    return answered, missing


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, request: Request
) -> Exchange:
    """Make one request of the host itself, over a connection that ends with it."""
    method, target, headers, body = request
    connection = h11.Connection(h11.CLIENT)
    kept = [(k, v) for k, v in headers if k.lower() not in _HOP]
    kept += [("Connection", "close")] + ([("Content-Length", str(len(body)))] if body else [])
    events: list[Any] = [h11.Request(method=method, target=target, headers=kept), h11.EndOfMessage()]
    if body:
        events.insert(1, h11.Data(data=body))
    for event in events:
        writer.write(connection.send(event) or b"")
    await writer.drain()
    status, content = 502, b""
    found: tuple[Header, ...] = ()
    while True:
        event = await _event(connection, reader)
        if isinstance(event, h11.Response):
            status, found = event.status_code, _texts(event.headers)
        elif isinstance(event, h11.Data):
            content = _grown(content, bytes(event.data))
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            break
    kept_headers = tuple((k, v) for k, v in found if k.lower() not in _HOP)
    return Exchange(host, port, method, target, status, kept_headers, content)


def upstream_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    head: h11.Request | None = None
    body = b""
    while True:
        event = await _event(connection, reader)
        if isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body = _grown(body, bytes(event.data))
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return head.method.decode(), head.target.decode(), _texts(head.headers), body
        else:
            return None


async def _event(connection: h11.Connection, reader: asyncio.StreamReader) -> Any:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(READ))
    return h11.ConnectionClosed() if event is h11.PAUSED else event


def _send(connection: h11.Connection, writer: asyncio.StreamWriter, exchange: Exchange, *, head: bool) -> None:
    headers = [(k, v) for k, v in exchange.headers if k.lower() not in _HOP]
    headers.append(("Content-Length", str(len(exchange.body))))
    writer.write(connection.send(h11.Response(status_code=exchange.status, headers=headers)) or b"")
    if exchange.body and not head:
        writer.write(connection.send(h11.Data(data=exchange.body)) or b"")
    writer.write(connection.send(h11.EndOfMessage()) or b"")


def _grown(body: bytes, more: bytes) -> bytes:
    if len(body) + len(more) > MAX_BODY:
        raise TooLarge(f"a body is larger than {MAX_BODY} bytes", remedy="ask for less in the learning run")
    return body + more


def _texts(headers: Any) -> tuple[Header, ...]:
    return tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in headers)
