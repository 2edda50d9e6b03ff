"""Request bodies over ASGI: whole, within their limit, within their time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from gateway.edges.guard import Headers, HttpRefusal
from gateway.edges.streams import Receive
from gateway.limits import LIMITS

SLOW_BODY_S: Final = 30.0  # a client that has begun a body must end it within this


class Gone(Exception):
    """The client left before there was an answer to give."""


async def read_body(headers: Headers, receive: Receive) -> bytes:
    """The request body.  Raises ``HttpRefusal`` (413, 408)."""
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit() or len(declared) > 10 or int(declared) > LIMITS.body_bytes:
        await _discard(receive)
        raise _too_large()
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Gone
    if not message.get("more_body", False):
        return message.get("body", b"")  # type: ignore[no-any-return]
    try:
        async with asyncio.timeout(SLOW_BODY_S):
            return await _read_rest(message["body"], receive)
    except TimeoutError:
        raise HttpRefusal(
            408, "http.slow_body", "the body took too long", headers=[(b"connection", b"close")]
        ) from None


async def _read_rest(first: bytes, receive: Receive) -> bytes:
    body = bytearray(first)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        body += message.get("body", b"")
        if len(body) > LIMITS.body_bytes:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


async def _discard(receive: Receive) -> None:
    """Take in some of what will be refused: closing on unread data would reset the connection, and the client would
    never see why."""
    taken = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SLOW_BODY_S):
            while taken <= 4 * LIMITS.body_bytes:
                message = await receive()
                taken += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


def _too_large() -> HttpRefusal:
    return HttpRefusal(
        413,
        "http.too_large",
        f"a request body may hold {LIMITS.body_bytes} bytes",
        headers=[(b"connection", b"close")],
    )
