"""What the head of a request says, beside who sent it.  Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway import eras
from gateway.edges.guard import Headers
from gateway.edges.streams import RawHeaders
from gateway.forward import HeaderMap

SESSION: Final = b"mcp-session-id"
VERSION: Final = b"mcp-protocol-version"
_HANDSHAKE: Final = frozenset(v.encode() for v in eras.HANDSHAKE_PROTOCOL_VERSIONS)


class Said(NamedTuple):
    """What the head of a POST says; the same for the same bytes."""

    headers: Headers
    json: bool  # the client takes JSON
    sse: bool  # and streams
    modern: bool
    session: str | None
    traced: bool
    usual: bool  # of a handshake session, at the path that nearly everybody uses


class Lookup:
    """A header by its text name, as text."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def __call__(self, name: str) -> str | None:
        value = self._headers.get(name.encode())
        return _text(value) if value is not None else None


def is_modern(headers: Headers) -> bool:
    """Unknown revisions count as modern: that era's errors name the revisions we speak."""
    version = headers.get(VERSION)
    return version is not None and version not in _HANDSHAKE and version.strip(b" \t") not in _HANDSHAKE


def session_of(headers: Headers) -> str | None:
    value = headers.get(SESSION)
    return _text(value) if value is not None else None


def param_headers(raw: RawHeaders) -> HeaderMap:
    return {k.decode("latin-1"): _text(v) for k, v in raw if k.startswith(b"mcp-param-")}


def _text(value: bytes) -> str:
    """A header's value without the blanks around it: they are not part of it, and the parser leaves those behind it
    (RFC 9110 section 5.5)."""
    return value.strip(b" \t").decode("latin-1")
