"""The parent's end of the connection to an engine: bytes into frames, frames to the requests that wait for them.

This is done for every token of every stream, on the cores that the engine computes with: no task stands between the socket
and a request's own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from harbourmaster.core.errors import HarbourError
from runner.engine import wire

Frame = dict[str, Any]


class Inbox:
    """What one request has been answered and has not read yet; it has one reader."""

    __slots__ = ("_frames", "_loop", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._frames: deque[Frame] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, frame: Frame) -> None:
        self._frames.append(frame)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Frame:
        while not self._frames:
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._frames.popleft()


class Connection(asyncio.Protocol):
    """``refused`` is called when what comes is no frame, or too much for one; ``lost`` is done when the connection is."""

    def __init__(self, refused: Callable[[], None]) -> None:
        self.inboxes: dict[int, Inbox] = {}  # by request
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._refused = refused
        self._begun: list[bytes] = []  # of a frame whose end has not come
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's has no such class

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        if not data.endswith(b"\n") or self._begun:
            data = self._whole_lines(data)
        try:
            for line in data.splitlines():
                self._deliver(wire.decode(line))
        except (HarbourError, LookupError, TypeError, ValueError):
            self._refused()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def _whole_lines(self, data: bytes) -> bytes:
        whole, newline, rest = data.rpartition(b"\n")
        if newline:
            whole = b"".join((*self._begun, whole))
            self._begun, self._size = [], 0
        if rest:
            self._begun.append(rest)
            self._size += len(rest)
        if self._size > wire.MAX_FRAME:
            self._refused()
        return whole

    def _deliver(self, frame: Frame) -> None:
        if frame["ev"] != "step":
            self._put(frame["id"], frame)
            return
        for request_id, text in zip(frame["ids"], frame["texts"], strict=True):
            self._put(request_id, {"ev": "delta", "text": text})

    def _put(self, request_id: int, frame: Frame) -> None:
        inbox = self.inboxes.get(request_id)
        if inbox is not None:
            inbox.put(frame)
