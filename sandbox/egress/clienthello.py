"""The server name in a TLS ClientHello, read without taking part in the handshake.  Pure, bounded, total.

RFC 8446 (records 5.1, ClientHello 4.1.2), RFC 6066 section 3 (server_name).  A hello may be spread over several records.
"""

from __future__ import annotations

MAX_HELLO = 64 * 1024  # post-quantum key shares make hellos of 2 KB; 64 KiB is beyond any real one
HANDSHAKE, CLIENT_HELLO, SERVER_NAME, HOST_NAME = 22, 1, 0, 0
MAX_RECORD = 16384  # RFC 8446 5.1
MAX_RECORDS = 64  # clients that spread a hello use two to ten; all are read again whenever bytes arrive


class NotAHello(ValueError):
    """These bytes do not begin with a ClientHello."""


def server_name(data: bytes) -> str | None:
    """The name asked for, lower case; "" where the hello has none; None where more bytes are needed.

    Raises ``NotAHello`` for anything else, and for a hello that is malformed or longer than ``MAX_HELLO``.
    """
    hello = _handshake(data)
    if hello is None:
        if len(data) >= MAX_HELLO:
            raise NotAHello("the ClientHello is too long")
        return None
    try:
        return _name(_Reader(hello))
    except IndexError as e:
        raise NotAHello("the ClientHello is cut short inside") from e


def _handshake(data: bytes) -> bytes | None:
    """The body of the first handshake message, put together from its records."""
    message, position = b"", 0
    for _ in range(MAX_RECORDS):
        header = data[position : position + 5]
        if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
            raise NotAHello("these are not TLS records")
        if len(header) < 5:
            return None
        length = int.from_bytes(header[3:5], "big")
        if not 0 < length <= MAX_RECORD:
            raise NotAHello("a record has an impossible length")
        message += data[position + 5 : position + 5 + length]
        position += 5 + length
        if message and message[0] != CLIENT_HELLO:
            raise NotAHello("the first message is not a ClientHello")
        if len(message) >= 4:
            size = int.from_bytes(message[1:4], "big")
            if size > MAX_HELLO:
                raise NotAHello("the ClientHello is too long")
            if len(message) >= 4 + size:
                return message[4 : 4 + size]
        if position > len(data):
            return None
    raise NotAHello("the ClientHello is spread over too many records")


class _Reader:
    """Takes fields off the front; ``IndexError`` where there are too few bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise IndexError
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))


def _name(hello: _Reader) -> str:
    hello.take(2 + 32)  # legacy_version, random
    hello.vector(1)  # legacy_session_id
    hello.vector(2)  # cipher_suites
    hello.vector(1)  # legacy_compression_methods
    if not hello.left:
        return ""
    extensions, found = _Reader(hello.vector(2)), []
    while extensions.left:
        kind, body = extensions.number(2), extensions.vector(2)
        if kind == SERVER_NAME:
            found.append(_host_name(_Reader(body)))
    if len(found) > 1:
        raise NotAHello("the ClientHello has two server names")
    return found[0] if found else ""


def _host_name(body: _Reader) -> str:
    names = _Reader(body.vector(2))
    if names.number(1) != HOST_NAME:
        raise NotAHello("the server name is of an unknown type")
    name = names.vector(2)
    if names.left or body.left or not name.isascii():
        raise NotAHello("the ClientHello has more than one server name, or one that is not ASCII")
    return name.decode("ascii").lower().removesuffix(".")
