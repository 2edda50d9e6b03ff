"""Responses over ASGI: one JSON body, or a stream of server-sent events that begins when it must."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from gateway.calls import Outlet
from gateway.limits import LIMITS
from gateway.replay import Event, Follower, Replay, StreamLog

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

WHOLE: Final = "harbourmaster.response"  # an ASGI extension: status, headers and the whole body in one message
JSON: Final = (b"content-type", b"application/json")
PLAIN: Final = (JSON,)  # the headers of nearly every answer
SSE_HEADERS: Final[RawHeaders] = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
RETRY_MS: Final = 1000  # when a client may come back for the rest of a stream
PING: Final = b": ping\r\n\r\n"


def event(message: bytes) -> bytes:
    """One SSE event; encoded JSON has no line breaks (WHATWG HTML, section 9.2.6)."""
    return b"event: message\r\ndata: " + message + b"\r\n\r\n"


def numbered(event: Event) -> bytes:
    """One SSE event that a client can name when it comes back."""
    return b"id: " + event.id.encode() + b"\r\nevent: message\r\ndata: " + event.message + b"\r\n\r\n"


def priming(log: StreamLog) -> bytes:
    """The first event: an id and no data, so that the stream can be resumed before anything was said (SEP-1699)."""
    return b"id: %s-0\r\nretry: %d\r\ndata: \r\n\r\n" % (log.name.encode(), RETRY_MS)


async def send_body(send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    head = ((JSON, *headers) if headers else PLAIN) if body else headers
    await send({"type": WHOLE, "status": status, "headers": head, "body": body})


async def send_text(send: Send, text: bytes, content_type: bytes) -> None:
    head = ((b"content-type", content_type), (b"cache-control", b"no-store"))
    await send({"type": WHOLE, "status": 200, "headers": head, "body": text})


class Stream(Outlet):
    """Server-sent events; the response head goes out with the first of them."""

    started = False
    _queued = 0
    _pump: asyncio.Task[None] | None = None
    _watcher: asyncio.Task[None] | None = None

    def __init__(self, send: Send, receive: Receive, headers: RawHeaders) -> None:
        self._send = send
        self._receive = receive
        self._headers = headers
        self._queue: list[bytes] = []

    def push(self, message: bytes) -> bool:
        if self.gone:
            return False
        self._put(event(message))
        return True

    def ping(self) -> None:
        if self.started and not self.gone:
            self._put(PING)

    def watch(self) -> None:
        if self._watcher is None and not self.gone:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def left(self) -> None:
        """The client has gone."""
        self.gone = True
        self._queue.clear()

    def _put(self, chunk: bytes) -> None:
        self._queued += len(chunk)
        if self._queued > LIMITS.backlog_bytes:  # it does not read: there is no point in keeping more
            self.left()
            return
        self._queue.append(chunk)
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        try:
            await self.start()
            while self._queue:
                chunk = b"".join(self._queue)
                self._queue.clear()
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
                self._queued -= len(chunk)
        finally:
            self._pump = None

    async def start(self) -> None:
        if not self.started:
            self.started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": SSE_HEADERS + self._headers})
            await self._send({"type": "http.response.body", "body": b"", "more_body": True})  # the head goes out now

    def add_header(self, name: bytes, value: bytes) -> None:
        """Only before the first event."""
        self._headers = [*self._headers, (name, value)]

    async def drained(self) -> None:
        while self._pump is not None:
            await self._pump

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.left()


class PostStream(Stream):
    """The response to one POST: plain JSON, unless something must be said before the result."""

    task: asyncio.Task[Any] | None = None  # cancelled when the client leaves (modern: that is how it cancels)
    _replay: Replay | None = None
    _log: StreamLog | None = None

    def __init__(self, send: Send, receive: Receive, *, json: bool, sse: bool, headers: RawHeaders) -> None:
        super().__init__(send, receive, headers)
        self._json = json
        self._sse = sse

    @property
    def begun(self) -> bool:
        """Whether something was said before the result, or is about to be."""
        return self.started or self._pump is not None

    @property
    def reachable(self) -> bool:
        return not self.gone or (self._log is not None and self._log.followed)

    def resumable(self, replay: Replay) -> None:
        """The client knows how to come back for the rest of a stream (2025-11-25)."""
        self._replay = replay

    def push(self, message: bytes) -> bool:
        if not self._sse:
            return False
        self._begin()
        if self._log is None:
            return super().push(message)
        self._say(self._log, message)
        return True

    def watch(self) -> None:
        """A slow call's stream begins now: a client that loses the connection can come back for the result."""
        super().watch()
        if self._sse:
            self._begin()

    def _begin(self) -> None:
        if self._replay is not None and self._log is None and not self.gone:
            self._log = self._replay.open()
            self._put(priming(self._log))

    def _say(self, log: StreamLog, message: bytes) -> None:
        event = log.add(message)
        if not self.gone:
            self._put(numbered(event))

    def left(self) -> None:
        super().left()
        if self.task is not None:
            self.task.cancel()

    async def finish(self, message: bytes, status: int = 200) -> None:
        """The result: the last event of a stream that has begun, else the whole body."""
        self.task = None
        if self._pump is not None:
            await self.drained()
        if not self.started and (self._json or status >= 400):
            head = (JSON, *self._headers) if self._headers else PLAIN
            await self._send({"type": WHOLE, "status": status, "headers": head, "body": message})
            return
        await self.start()
        if self._log is not None:
            said = numbered(self._log.add(message))
            self._log.finish()
        else:
            said = event(message)
        await self._send({"type": "http.response.body", "body": said})


class StandingStream(Stream):
    """The GET stream of a session: open until either side closes it."""

    def __init__(self, send: Send, receive: Receive, headers: RawHeaders, log: StreamLog | None = None) -> None:
        super().__init__(send, receive, headers)
        self._log = log
        self._over = asyncio.Event()

    def push(self, message: bytes) -> bool:
        if self.gone or self._log is None:
            return super().push(message)
        self._put(numbered(self._log.add(message)))
        return True

    def first(self, raw: bytes) -> None:
        """An event that is no message."""
        self._put(raw)

    def repeat(self, events: list[Event]) -> None:
        """What the client missed."""
        for missed in events:
            self._put(numbered(missed))

    def left(self) -> None:
        super().left()
        self._over.set()

    def close(self) -> None:
        self._over.set()

    async def run(self) -> None:
        await self.start()
        self.watch()
        await self._over.wait()
        await self.drained()
        await self._send({"type": "http.response.body", "body": b""})


class ResumedStream(StandingStream, Follower):
    """The rest of a stream whose connection was lost; it ends with the stream."""

    def follow(self, event: Event) -> None:
        if not self.gone:
            self._put(numbered(event))

    def end(self) -> None:
        self.close()

    async def carry(self, log: StreamLog, number: int) -> None:
        """All that was said after ``number``, and all that will be."""
        log.resume(self, number)
        try:
            await self.run()
        finally:
            log.leave(self)
