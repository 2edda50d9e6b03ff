"""The head of a request to the proxy: ``CONNECT host:port`` or plain HTTP in absolute form.  Pure, bounded.

RFC 9112 section 3.2 (request targets), RFC 9110 section 9.3.6 (CONNECT).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from sandbox.egress.errors import RequestMalformed
from sandbox.egress.rules import canonical_host

MAX_HEAD = 32 * 1024  # twice what common servers take
MAX_HOST = 255  # characters: a name of 253 (RFC 1035 2.3.4), or an address in brackets

_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]{1,8192}) HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*)")
_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
# About this hop, or what we set ourselves
_DROPPED = frozenset({b"host", b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization"})


@dataclass(frozen=True)
class Request:
    """``forward``: the head to send upstream, empty for a tunnel."""

    host: str
    port: int
    tunnel: bool
    forward: bytes = b""


def split_head(data: bytes) -> tuple[bytes, bytes] | None:
    """(head without its blank line, what follows); None where more is needed.  Raises ``RequestMalformed``."""
    end = data.find(b"\r\n\r\n")
    if (end if end >= 0 else len(data)) > MAX_HEAD:
        raise _malformed(f"its head is longer than {MAX_HEAD} bytes")
    return None if end < 0 else (data[:end], data[end + 4 :])


def parse_request(head: bytes) -> Request:
    line, *fields = head.split(b"\r\n")
    match = _LINE.fullmatch(line)
    if match is None:
        raise _malformed("its first line is not an HTTP/1 request")
    parsed = [_FIELD.fullmatch(field) for field in fields]
    if not all(parsed):
        raise _malformed("a header line is not in the form of HTTP/1")
    method, target = match[1], match[2].decode("ascii")
    if method == b"CONNECT":
        host, port = _authority(target)
        return Request(host, port, tunnel=True)
    return _plain(method, target, [(m[1], m[2]) for m in parsed if m is not None])


def _plain(method: bytes, target: str, fields: list[tuple[bytes, bytes]]) -> Request:
    try:
        url = urlsplit(target)
        default = url.port is None
        port = 80 if url.port is None else url.port
    except ValueError as e:
        raise _malformed("its address is not a URL") from e
    if url.scheme.lower() != "http" or not url.hostname or "@" in url.netloc:
        raise _malformed("a proxy takes http:// addresses, and CONNECT for the rest")
    name = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    host, port = _authority(f"{name}:{port}")
    origin = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = [method + b" " + origin.encode("ascii") + b" HTTP/1.1"]
    # One request for one connection: the next could be for another host
    lines += [b"Host: " + (name if default else f"{name}:{port}").encode("ascii"), b"Connection: close"]
    lines += [k + b": " + v for k, v in fields if k.lower() not in _DROPPED]
    return Request(host, port, tunnel=False, forward=b"\r\n".join(lines) + b"\r\n\r\n")


def refusal(status: int, code: str, text: str) -> bytes:
    """An answer that a person who reads it can act on."""
    reason = {403: "Forbidden", 400: "Bad Request", 502: "Bad Gateway", 504: "Gateway Timeout"}[status]
    body = f"{code}: {text}\n".encode()
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + f"X-Harbourmaster-Code: {code}\r\nConnection: close\r\n\r\n".encode() + body


ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def _authority(text: str) -> tuple[str, int]:
    match = _AUTHORITY.fullmatch(text)
    if match is None or len(match[1]) > MAX_HOST or not 0 < int(match[2]) < 65536:
        raise _malformed("it names no host:port")
    return canonical_host(match[1].strip("[]")), int(match[2])


def _malformed(why: str) -> RequestMalformed:
    return RequestMalformed(f"the proxy request is refused: {why}", remedy="use an HTTP/1.1 client")
