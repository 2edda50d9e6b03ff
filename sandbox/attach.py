"""stdio of a container over the engine's hijacked attach connection, on the event loop: no thread, no process.

The wire: ``POST /containers/{id}/attach`` answers 101 (or 200), then our bytes are its stdin and its bytes are frames of
``{type, 0, 0, 0, big-endian length}`` and payload, type 1 stdout, 2 stderr (Docker Engine API 1.41, "Attach to a
container").  The request is spoken here because the SDK's socket comes wrapped in a blocking reader.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from sandbox.errors import EngineFailed, SandboxClosed, StdinFull

if TYPE_CHECKING:
    from sandbox.engine import Engine

MAX_LINE_BYTES = (
    16 * 1024 * 1024
)  # one message: holds a 12 MB image in base64, and bounds what one server can make us keep
WRITE_HIGH_WATER = 256 * 1024  # beyond this `drain` waits: a few messages ahead of a server that is busy
MAX_UNREAD_BYTES = 2 * MAX_LINE_BYTES  # written and not taken: the server has stopped reading
LINES_PER_TURN = 128  # then others have theirs: some 2 ms of work where each line has to be refused as no message
STDERR_PER_LINE = 512  # bytes of stderr that count as one line: 64 KiB, as much as is kept, in one turn
PAUSE_S = 0.004  # between turns of a server that floods: over 30,000 lines a second, at a third of one core of ours
MAX_RESPONSE_HEAD = 16 * 1024  # an engine's response head is some 150 bytes
ATTACH_TIMEOUT_S = 30  # the engine answers in a millisecond; an engine under heavy load in a second
MAX_REASON = 500  # characters of what the engine says when it refuses
STDERR = 2
HEADER = 8

LINE_TOO_LONG = f"a line of its output is longer than {MAX_LINE_BYTES} bytes"
STREAM_BROKEN = "the engine's attach stream is not in its documented form"


class AttachStream(asyncio.Protocol):
    """Feeds stdout lines to ``on_line`` and stderr bytes to ``on_stderr``; ``on_end(reason)`` once, "" for a plain end."""

    def __init__(
        self,
        request: bytes,
        on_line: Callable[[bytes], None],
        on_stderr: Callable[[bytes], None],
        on_end: Callable[[str], None],
        keep_rest: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._request = request
        self._on_line = on_line
        self._on_stderr = on_stderr
        self._on_end = on_end
        self._keep_rest = keep_rest
        self._head = bytearray()  # the HTTP response head until it is whole
        self._header = b""  # the start of a frame header cut by a read
        self._left = 0  # payload bytes of the current frame still to come
        self._kind = 0
        self._partial = bytearray()  # a line without its end
        self._later = b""  # read, and left for the next turn
        self._budget = LINES_PER_TURN
        self._ended = False
        self._stdin_closed = False
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.attached: asyncio.Future[None] = loop.create_future()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's is one without being a subclass
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if not self.attached.done():
            data = self._read_head(data)
        if self._later:
            self._later += data
            return
        self._budget = LINES_PER_TURN
        self._read_frames(data)

    def eof_received(self) -> bool:
        self._read_what_is_left()
        self._end("")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._read_what_is_left()
        self._end(f"the connection to the engine broke: {exc}" if exc else "")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- our side

    def write(self, data: bytes) -> None:
        """Raises ``SandboxClosed`` after the end, ``StdinFull`` when the server has long stopped reading."""
        transport = self._transport
        if self._ended or self._stdin_closed or transport is None:
            raise SandboxClosed("the sandbox has ended", remedy="open a new session")
        if not self._writable.is_set() and transport.get_write_buffer_size() + len(data) > MAX_UNREAD_BYTES:
            raise StdinFull(f"the server left {MAX_UNREAD_BYTES} bytes of its input unread", remedy="it hangs: stop it")
        transport.write(data)

    async def drain(self) -> None:
        await self._writable.wait()

    def close_stdin(self) -> None:
        """Half-close: the server reads an end of file, we still read what it says.  TLS cannot do that and closes."""
        transport = self._transport
        if transport is None or self._ended or self._stdin_closed or transport.is_closing():
            return
        self._stdin_closed = True
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def abort(self, reason: str = "") -> None:
        self._end(reason)

    def _end(self, reason: str) -> None:
        if self._ended:
            return
        self._ended = True
        self._writable.set()
        self._partial = bytearray()
        self._later = b""
        if self._transport is not None:
            self._transport.abort()
        if not self.attached.done():
            self.attached.set_exception(EngineFailed(f"the engine ended the attach request: {reason or 'no answer'}"))
            return
        self._on_end(reason)

    def _read_head(self, data: bytes) -> bytes:
        """Take the response head; returns what follows it."""
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) <= MAX_RESPONSE_HEAD:
            return b""
        words = bytes(self._head[:64]).split(b" ", 2)
        if end < 0 or len(words) < 2 or words[1] not in (b"101", b"200"):
            status, _, rest = self._head.decode("utf-8", "replace").partition("\r\n")
            body = rest.partition("\r\n\r\n")[2]
            self._end(f"{status[:100]} {body[:MAX_REASON].strip()}")
            return b""
        self.attached.set_result(None)
        return bytes(self._head[end + 4 :])

    def _read_frames(self, data: bytes) -> None:
        if self._header:
            data = self._header + data  # at most 7 bytes were kept
            self._header = b""
        position, size = 0, len(data)
        while position < size and not self._ended:
            if self._left == 0:
                if size - position < HEADER:
                    self._header = data[position:]
                    return
                self._kind = data[position]
                self._left = int.from_bytes(data[position + 4 : position + HEADER], "big")
                if self._kind > STDERR or data[position + 1] or data[position + 2] or data[position + 3]:
                    self._end(STREAM_BROKEN)
                    return
                position += HEADER
            stop = min(position + self._left, size)
            taken = self._read_payload(data, position, stop)
            self._left -= taken - position
            position = taken
            if self._budget <= 0 and position < size:
                self._rest(data[position:])
                return

    def _read_payload(self, data: bytes, start: int, stop: int) -> int:
        """Returns where it stopped: at the end, or where this turn's budget did."""
        if self._kind != STDERR:
            return self._read_lines(data, start, stop)
        self._budget -= 1 + (stop - start) // STDERR_PER_LINE
        self._on_stderr(data[start:stop])
        return stop

    def _rest(self, data: bytes) -> None:
        """Let others have a turn; the server waits meanwhile, as its output is not read."""
        self._later = data
        assert self._transport is not None
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        if self._ended or self._transport is None:
            return
        data, self._later = self._later, b""
        self._budget = LINES_PER_TURN
        self._read_frames(data)
        if not self._later and not self._ended:
            self._transport.resume_reading()

    def _read_what_is_left(self) -> None:
        """The connection is gone, its last bytes are here: at most one read's worth."""
        data, self._later = self._later, b""
        self._budget = len(data) + 1
        self._read_frames(data)
        if self._keep_rest and self._partial and not self._ended:
            line, self._partial = bytes(self._partial), bytearray()
            self._on_line(line)

    def _read_lines(self, data: bytes, start: int, stop: int) -> int:
        while self._budget > 0 and (newline := data.find(b"\n", start, stop)) >= 0:
            if self._partial:
                self._partial += data[start:newline]
                line = bytes(self._partial)
                self._partial.clear()
            else:
                line = data[start:newline]
            start = newline + 1
            self._budget -= 1
            if len(line) > MAX_LINE_BYTES:
                self._end(LINE_TOO_LONG)
            else:
                self._on_line(line)
            if self._ended:
                return stop
        if self._budget <= 0:
            return start
        if start < stop:
            self._partial += data[start:stop]
            if len(self._partial) > MAX_LINE_BYTES:
                self._end(LINE_TOO_LONG)
        return stop


async def attach(
    engine: Engine,
    container: str,
    *,
    on_line: Callable[[bytes], None],
    on_stderr: Callable[[bytes], None],
    on_end: Callable[[str], None],
    stdin: bool = True,
    keep_rest: bool = False,
) -> AttachStream:
    """Attach to a created or running container; returns when the engine has switched to the stream.

    ``keep_rest``: what comes after the last newline is a line too.  Raises ``EngineFailed``.  Nothing is lost between attach and start: the engine holds the streams open for us.
    """
    loop = asyncio.get_running_loop()
    request = _request(engine, container, stdin=stdin)
    stream = AttachStream(request, on_line, on_stderr, on_end, keep_rest)
    try:
        async with asyncio.timeout(ATTACH_TIMEOUT_S):
            await _connect(loop, engine, stream)
            await stream.attached
    except TimeoutError as e:
        stream.abort("timeout")
        raise EngineFailed(f"the engine did not attach within {ATTACH_TIMEOUT_S} s", remedy="see: hm doctor") from e
    except OSError as e:
        raise EngineFailed(f"the engine at {engine.url} cannot be reached: {e}", remedy="see: hm doctor") from e
    except asyncio.CancelledError:
        stream.abort("cancelled")
        raise
    finally:
        if stream.attached.done() and not stream.attached.cancelled():
            stream.attached.exception()  # read, so that a cancelled attach does not warn of it
    return stream


def _request(engine: Engine, container: str, *, stdin: bool) -> bytes:
    version = engine.api.api_version
    flags = f"stream=1&stdout=1&stderr=1&stdin={int(stdin)}"
    head = (
        f"POST /v{version}/containers/{container}/attach?{flags} HTTP/1.1",
        f"Host: {urlsplit(engine.url).netloc or 'docker'}",
        "Connection: Upgrade",
        "Upgrade: tcp",
        "Content-Length: 0",
    )
    return ("\r\n".join(head) + "\r\n\r\n").encode()


async def _connect(loop: asyncio.AbstractEventLoop, engine: Engine, stream: AttachStream) -> None:
    address = urlsplit(engine.url)
    if address.scheme in ("unix", "http+unix"):
        await loop.create_unix_connection(lambda: stream, address.path)
    elif address.scheme in ("tcp", "http", "https"):
        tls = _tls(engine) if engine.api.base_url.startswith("https") else None
        port = address.port or (2376 if tls else 2375)  # dockerd's customary ports, with and without TLS
        await loop.create_connection(lambda: stream, address.hostname or "localhost", port, ssl=tls)
    else:
        raise EngineFailed(f"stdio over {address.scheme}:// is not possible", remedy="use a unix:// or tcp:// address")


def _tls(engine: Engine) -> ssl.SSLContext:
    """The same trust and client certificate as the SDK's session."""
    session = engine.api
    context = ssl.create_default_context(cafile=session.verify if isinstance(session.verify, str) else None)
    if session.cert:
        cert, key = session.cert
        context.load_cert_chain(Path(cert), Path(key))
    return context
