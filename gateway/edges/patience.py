"""How long a connection may keep the gateway waiting: uvicorn has no limit for slow headers or clients that do not read.

Checked once a second for all connections, so a request pays for two assignments and no timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_S: Final = 15.0  # from the connection, or the first byte of a request, to the end of its headers
BODY_S: Final = 60.0  # from there to the end of a body; what reads a body has patience of its own once that has begun
HEAD_BYTES: Final = 64 << 10  # of one request's headers; nginx and Apache take less by default
_RESET: Final = struct.pack("ii", 1, 0)  # struct linger (socket(7)): on, for no time
STALL_S: Final = 60.0  # a client that reads nothing of what waits for it


class PatientProtocol(HttpToolsProtocol):
    """``head_since``: when the headers of a request began to come in; None between requests and while one is answered."""

    head_since: float | None = None
    head_bytes: int = 0
    stalled: tuple[int, float] = (0, 0.0)  # bytes unread, and since when that many
    owed: tuple[Any, float] = (None, 0.0)  # the request whose body is not here, and since when that was seen

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.head_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        while self.head_since is not None and data and not self.transport.is_closing():
            room = HEAD_BYTES - self.head_bytes
            if room <= 0:
                self.turn_away(431)
                return
            head, data = data[:room], data[room:]  # what comes with the headers may be the body's
            self.head_bytes += len(head)
            super().data_received(head)
        if data and not self.transport.is_closing():
            super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.head_since = self.loop.time()
        self.head_bytes = 0

    def on_headers_complete(self) -> None:
        self.head_since = None
        super().on_headers_complete()

    def turn_away(self, status: int) -> None:
        self.head_since = None
        self.transport.write(STATUS_LINE[status] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()

    def look(self, now: float) -> None:
        """End the connection if its patience is over."""
        if self.head_since is not None and now - self.head_since > HEAD_S:
            self.turn_away(408)
            return
        self._look_at_body(now)
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread != self.stalled[0]:
            self.stalled = (unread, now)
        elif now - self.stalled[1] > STALL_S:
            self.cut()

    def _look_at_body(self, now: float) -> None:
        cycle = self.cycle
        owes = cycle is not None and cycle.more_body and not cycle.response_complete and not self.pipeline
        if not owes or self.owed[0] is not cycle:
            self.owed = (cycle if owes else None, now)
        elif now - self.owed[1] > BODY_S:
            self.cut() if cycle.response_started else self.turn_away(408)

    def cut(self) -> None:
        """Reset the connection: closed, the kernel would keep what is unread for as long as the client stays."""
        sock = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


def look_at(connections: Iterable[Any], now: float) -> None:
    for connection in tuple(connections):
        if isinstance(connection, PatientProtocol):
            connection.look(now)
