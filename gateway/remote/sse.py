"""Server-sent events from bytes (WHATWG HTML, section 9.2.6).  Pure; bounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.remote.errors import RemoteTooLarge
from sandbox.attach import MAX_LINE_BYTES

MAX_RETRY_MS: Final = 60_000  # a server may not put us off for longer


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    data: bytes


class Events:
    """``feed`` bytes, get whole events.  ``last_id`` and ``retry_ms`` are what the stream said so far."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry_ms: int | None = None
        self._rest = bytearray()
        self._searched = 0
        self._data: list[bytes] = []
        self._name = ""
        self._size = 0
        self._started = False

    def again(self) -> Events:
        """For the connection that takes the stream up where this one broke off."""
        fresh = Events()
        fresh.last_id, fresh.retry_ms = self.last_id, self.retry_ms
        return fresh

    def feed(self, chunk: bytes) -> list[Event]:
        """Raises ``RemoteTooLarge`` when a line or an event is over ``MAX_LINE_BYTES``."""
        self._rest += chunk
        if not self._started and len(self._rest) >= 3:
            self._started = True
            if self._rest.startswith(b"\xef\xbb\xbf"):  # the one byte order mark that a stream may begin with
                del self._rest[:3]
        events = [event for line in self._lines() if (event := self._line(line)) is not None]
        if len(self._rest) + self._size > MAX_LINE_BYTES:
            raise _too_large()
        return events

    def _lines(self) -> list[bytes]:
        """Whole lines; a CR at the end may be half a CRLF and waits."""
        if b"\n" not in self._rest[self._searched :] and b"\r" not in self._rest[self._searched :]:
            self._searched = len(self._rest)
            return []
        held = b"\r" if self._rest.endswith(b"\r") else b""
        body = bytes(self._rest[: len(self._rest) - len(held)])
        *whole, rest = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = bytearray(rest + held)
        self._searched = max(0, len(self._rest) - 1)
        return whole

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        match name:
            case b"data":
                self._data.append(value)
                self._size += len(value)
                if self._size > MAX_LINE_BYTES:
                    raise _too_large()
            case b"event":
                self._name = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value and len(value) <= 1024:
                self.last_id = value.decode("utf-8", "replace")
            case b"retry" if value.isdigit() and len(value) < 10:
                self.retry_ms = min(int(value), MAX_RETRY_MS)
        return None

    def _dispatch(self) -> Event | None:
        data, name = self._data, self._name
        self._data, self._name, self._size = [], "", 0
        return Event(name or "message", b"\n".join(data)) if data else None


def _too_large() -> RemoteTooLarge:
    return RemoteTooLarge(f"one event is over {MAX_LINE_BYTES} bytes", remedy="ask the server for less")
