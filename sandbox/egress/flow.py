"""Bytes both ways between a relay's socket and a host's, with backpressure, half-close and counts.

Plain non-blocking sockets on the event loop's readiness calls: one read, one write, nothing kept unless the receiver is
full, and then its sender is not read until it has taken it.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import Callable

from sandbox.egress.limits import CHUNK

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time (socket(7)); closing then sends a reset
_BUFFER = memoryview(bytearray(CHUNK))  # one for all: between read and write nothing else runs


class _Half:
    """One direction."""

    __slots__ = ("count", "done", "rest", "source", "target")

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source, self.target = source, target
        self.count = 0
        self.rest: memoryview | None = None
        self.done = False


class Flow:
    """``on_bytes(n)`` hears of every chunk and answers whether to go on; ``on_end(why)`` is called once, "" for a clean end."""

    def __init__(
        self,
        relay: socket.socket,
        host: socket.socket,
        on_bytes: Callable[[int], str],
        on_end: Callable[[str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._relay, self._host = relay, host
        self._on_bytes, self._on_end = on_bytes, on_end
        self.out, self.back = _Half(relay, host), _Half(host, relay)
        self.moved = self._loop.time()
        self._open = True

    def start(self, first: bytes = b"") -> None:
        """``first``: what was read of the relay already, and goes to the host before all else."""
        if first:
            self._send(self.out, memoryview(first))
        for half in (self.out, self.back):
            if self._open and half.rest is None:
                self._loop.add_reader(half.source, self._ready, half)

    def cut(self, why: str) -> None:
        """End at once, so that neither side takes it for the end of the data."""
        if not self._open:
            return
        self._forget()
        self._host.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._close(why)

    def _ready(self, half: _Half) -> None:
        try:
            n = half.source.recv_into(_BUFFER)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as e:
            self.cut(f"a side broke off: {e.strerror}")
            return
        if n:
            self._send(half, _BUFFER[:n])
        else:
            self._end_of(half)

    def _send(self, half: _Half, data: memoryview) -> None:
        self.moved = self._loop.time()
        half.count += len(data)
        if refused := self._on_bytes(len(data)):
            self.cut(refused)
            return
        try:
            sent = half.target.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as e:
            self.cut(f"a side broke off: {e.strerror}")
            return
        if sent < len(data):
            half.rest = memoryview(bytes(data[sent:]))
            self._loop.remove_reader(half.source)
            self._loop.add_writer(half.target, self._drain, half)

    def _drain(self, half: _Half) -> None:
        assert half.rest is not None
        try:
            sent = half.target.send(half.rest)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as e:
            self.cut(f"a side broke off: {e.strerror}")
            return
        self.moved = self._loop.time()
        half.rest = half.rest[sent:]
        if not half.rest:
            half.rest = None
            self._loop.remove_writer(half.target)
            self._loop.add_reader(half.source, self._ready, half)

    def _end_of(self, half: _Half) -> None:
        self._loop.remove_reader(half.source)
        if half is self.out and not self.back.done and _hung_up(self._relay):
            self.cut("the client broke off")
            return
        half.done = True
        with contextlib.suppress(OSError):  # the other side may be gone already, and its own end says so
            half.target.shutdown(socket.SHUT_WR)
        if self.out.done and self.back.done:
            self._forget()
            self._close("")

    def _forget(self) -> None:
        for half in (self.out, self.back):
            self._loop.remove_reader(half.source)
            self._loop.remove_writer(half.target)

    def _close(self, why: str) -> None:
        self._open = False
        self._relay.close()
        self._host.close()
        self._on_end(why)


def _hung_up(sock: socket.socket) -> bool:
    """Whether the other side closed both ways: then no answer is wanted any more (unix(7), poll(2) POLLHUP)."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
