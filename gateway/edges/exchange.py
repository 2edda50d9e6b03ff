"""One connection and its requests, as uvicorn has them, but for what costs every request and serves none of ours.

No timer for each pause between requests (connections are looked at once a second), no task for each request (a connection has
one for all of its requests), no second reading of a head that came before (``gateway/edges/heads.py``), and an answer whose
body is known goes out as one message and one write.  What the edges send and get is ASGI with two extensions (``WHOLE``, ``HEAD``), in the way of ``http.response.pathsend``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

from gateway.edges.heads import BODY, END, HEAD, HEADS, Head, candidate
from gateway.edges.patience import PatientProtocol
from gateway.edges.streams import PLAIN, WHOLE

AtOnce = Callable[["Exchange", Any, bytes], bool]  # (exchange, what the edge kept of the head, body): is it taken?

KEEP_ALIVE_S: Final = 75.0  # idle connections; MCP clients pause between calls

_ODD: Final = frozenset(b"?#%")  # in a request's target: it needs parsing


class Signal:
    """``asyncio.Event``, which is only made where something has to be waited for: most bodies are here when they are asked for."""

    __slots__ = ("_event", "_on")

    def __init__(self, *, on: bool = False) -> None:
        self._on = on
        self._event: asyncio.Event | None = None

    def set(self) -> None:
        self._on = True
        if self._event is not None:
            self._event.set()

    def clear(self) -> None:
        self._on = False
        if self._event is not None:
            self._event.clear()

    async def wait(self) -> bool:
        if not self._on:
            self._event = self._event or asyncio.Event()
            await self._event.wait()
        return True


class OneWrite:
    """A transport that sends a response's head together with what follows it: one system call instead of two."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Exchange(RequestResponseCycle):
    """One request and its response.  ``wire``: the connection itself, beside the ``OneWrite`` that streams use."""

    # What uvicorn sets for each anew, and most never change.
    disconnected = response_started = response_complete = access_log = False
    chunked_encoding: bool | None = None
    expected_content_length = 0

    def __init__(self, protocol: QuickProtocol, body: bytes | None = None) -> None:
        """``body``: None where it is still to come."""
        self.scope = protocol.scope
        self.transport = protocol.joined  # type: ignore[assignment]
        self.wire = protocol.transport
        self.flow = protocol.flow
        self.logger = protocol.logger
        self.access_logger = protocol.access_logger
        self.default_headers = protocol.server_state.default_headers
        self.on_response = protocol.on_response_complete
        self.keep_alive = True
        self.waiting_for_100_continue = False
        self.message_event = Signal(on=body is not None)  # type: ignore[assignment]
        self.more_body = body is None
        self.body = bytearray() if body is None else body  # type: ignore[assignment]

    async def run(self, app: Any) -> None:
        """As ``run_asgi``, which judges all but the usual: an answer that is complete, or a client that has gone."""
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException as e:
            await self.run_asgi(_raising(e))
        else:
            if not (self.response_complete or self.disconnected):
                await self.run_asgi(_silent)
        finally:
            self.on_response = _silent_end  # it belongs to the connection, which keeps this

    async def send(self, message: Any) -> None:
        if message["type"] != WHOLE:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.answer(message["status"], message["headers"], message["body"])

    def answer(self, status: int, headers: Any, body: bytes) -> None:
        """The whole response, in one write."""
        if self.response_started:
            raise RuntimeError("a response has begun already")
        head = self._head(status, len(body), headers)
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.wire.write(head if self.scope["method"] == "HEAD" else head + body)
        self.message_event.set()
        if not self.keep_alive:
            self.wire.close()
        told, self.on_response = self.on_response, _silent_end  # it belongs to the connection, which keeps this
        told()

    def _head(self, status: int, length: int, headers: Any) -> bytes:
        if headers is PLAIN and status == 200 and self.keep_alive:
            return b"%bcontent-length: %d\r\n\r\n" % (_usual(self.default_headers), length)
        lines = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *headers):
            if HEADER_VALUE_RE.search(value):
                raise RuntimeError("a header's value has characters that no header may have")
            if name == b"connection" and value == b"close":
                self.keep_alive = False
            lines.append(b"%b: %b\r\n" % (name, value))
        if not self.keep_alive and b"connection: close\r\n" not in lines:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n" if status == 204 else b"content-length: %d\r\n\r\n" % length)  # RFC 9110 section 8.6
        return b"".join(lines)


def _raising(error: BaseException) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    return app


async def _silent(scope: Any, receive: Any, send: Any) -> None:
    """An application that leaves its answer as it is."""


def _silent_end() -> None:
    """Nobody is told."""


_last: tuple[Any, bytes] = (None, b"")


def _usual(default: list[tuple[bytes, bytes]]) -> bytes:
    """The head of nearly every answer; made once a second, when uvicorn has another date."""
    global _last
    if _last[0] is not default:
        _last = default, b"".join([STATUS_LINE[200], *(b"%b: %b\r\n" % each for each in (*default, *PLAIN))])
    return _last[1]


class QuickProtocol(PatientProtocol):
    joined: OneWrite
    idle_since: float | None = None  # between a response and the next request
    worker: asyncio.Task[None] | None = None
    rest: asyncio.Future[Any] | None = None  # what the worker waits for between requests: the next, or None at the end
    between = False  # the parser has read a request to its end, and nothing of another
    data = b""  # what is being parsed, where it begins with a request
    head: Head | None = None  # of the request that is being parsed, if it may come again
    known: Head | None = None  # of the last request, if it was not parsed
    at_once: AtOnce | None = None  # how the application answers without a task, where it can

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.joined = OneWrite(transport)
        self.at_once = getattr(self.app, "at_once", None)

    def data_received(self, data: bytes) -> None:
        if not self.between or self.idle_since is None:
            super().data_received(data)
            return
        end = data.find(END) + len(END)
        known = HEADS.known(data[:end], len(data) - end)
        if known is not None:
            self._repeat(known, data[end:])
            return
        self.data, self.head = data, None
        super().data_received(data)
        self.data = b""
        self._compare(data)

    def _compare(self, data: bytes) -> None:
        """A head may be known again if the parser found its end, and its body's, where we did."""
        head, cycle = self.head, self.cycle
        if head is not None:
            head.sound = self.between and not cycle.more_body and cycle.body == data[len(head.raw) :]

    def _repeat(self, head: Head, body: bytes) -> None:
        """Begin with a request whose head is known and whose body is whole: the parser need not see it."""
        self.idle_since = None
        if head is not self.known:  # else the scope is the last request's, which has been answered
            place = {"scheme": self.scheme, "client": self.client, "server": self.server}
            self.known, self.scope = head, {**head.scope, **place}  # type: ignore[typeddict-item]
        self.scope[BODY] = body  # type: ignore[typeddict-unknown-key]
        self.cycle = exchange = Exchange(self, body)
        if self.at_once is None or not self.at_once(exchange, head.said, body):
            self._start_asgi_task(exchange, self.app)

    def on_message_begin(self) -> None:
        self.between = False
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self.head_since, self.head_bytes, self.idle_since = self.loop.time(), 0, None

    def on_headers_complete(self) -> None:
        self.head_since = None
        version = self.parser.get_http_version()
        self.scope, self.known = self._scope(version), None
        before = self.cycle
        self.cycle = cycle = Exchange(self)
        cycle.keep_alive = version != "1.0" and self.parser.should_keep_alive()
        cycle.waiting_for_100_continue = self.expect_100_continue
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:  # one after the other, as they came
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_message_complete(self) -> None:
        self.between = True
        super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        rest, self.rest = self.rest, None
        if rest is not None and not rest.done():
            rest.set_result(cycle)
        elif self.worker is None:
            self.worker = task = self.loop.create_task(self._work(cycle))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)
        else:  # it still has to do with the request before, though that has its answer
            super()._start_asgi_task(cycle, app)

    async def _work(self, cycle: Any) -> None:
        """Answer one request after the other, while the connection lasts."""
        task = asyncio.current_task()
        try:
            while cycle is not None:
                await cycle.run(self.app)
                if self.parser is None or (task is not None and task.cancelling()):
                    return
                self.rest = self.loop.create_future()
                cycle = await self.rest
        finally:
            self.worker = self.rest = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        rest, self.rest = self.rest, None
        if rest is not None and not rest.done():
            rest.set_result(None)

    def _scope(self, version: str) -> Any:
        """ASGI's, "HTTP & WebSocket ASGI Message Format", section "HTTP Connection Scope"."""
        path, query = _target(self.url)
        method = self.parser.get_method().decode("ascii")
        head = self.head = candidate(self.data, method, version, self.headers) if self.data else None
        self.data = b""
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method,
            "scheme": self.scheme,
            "path": path,
            "query_string": query,
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
            "extensions": _EXTENSIONS if head is None else {WHOLE: {}, HEAD: head},
        }
        if head is not None:
            head.scope = scope
        return scope

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle_since = self.loop.time()

    def look(self, now: float) -> None:
        super().look(now)
        if self.idle_since is not None and now - self.idle_since > KEEP_ALIVE_S and not self.transport.is_closing():
            self.transport.close()


_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
_EXTENSIONS: Final[dict[str, Any]] = {WHOLE: {}}


def _target(url: bytes) -> tuple[str, bytes]:
    """(path, query) of a request's target (RFC 9112 section 3.2)."""
    if url.startswith(b"/") and _ODD.isdisjoint(url):
        return url.decode("ascii"), b""
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return unquote(path) if "%" in path else path, parsed.query or b""
