"""Before any page: the host is ours, the request is no other page's, the body is bounded; after it: headers that bind browsers.

ASGI, so that it also stands before streams and static files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.errors import FormInvalid, HostWrong, OriginWrong

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_BODY: Final = 1 << 20  # bytes; the largest form holds a 64 KiB secret, percent-encoded

# Level 3 of the Content Security Policy: nothing but our own files, no inline script or style, no frames around us.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'none'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Guard:
    """``refuse`` turns an error into an ASGI answer."""

    def __init__(self, app: ASGIApp, *, refuse: Any, hosts: Iterable[str] = ()) -> None:
        self._app, self._refuse = app, refuse
        self._hosts = LOOPBACK | {h.lower() for h in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {k: v.decode("latin-1") for k, v in scope["headers"] if k in _LOOKED_AT}
        sender = _with_headers(send, static=scope["path"].startswith("/static/"))
        try:
            self._check(scope["method"], headers)
        except (HostWrong, OriginWrong, FormInvalid) as e:
            await self._refuse(scope, e)(scope, receive, sender)
            return
        await self._app(scope, _bounded(receive), sender)

    def _check(self, method: str, headers: dict[bytes, str]) -> None:
        host = headers.get(b"host", "")
        if _name(host) not in self._hosts:
            raise HostWrong(
                "this console does not answer to that host name",
                remedy="open it as http://127.0.0.1 or http://localhost, with its port",
            )
        if int(headers.get(b"content-length") or 0) > MAX_BODY:
            raise FormInvalid(f"the body is larger than {MAX_BODY} bytes", remedy="send less")
        if method in SAFE:
            return
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if (origin is not None and urlsplit(origin).netloc.lower() != host.lower()) or site in (
            "cross-site",
            "same-site",
        ):
            raise OriginWrong("another web page sent this", remedy="do it on the console's own pages")


_LOOKED_AT = (b"host", b"origin", b"sec-fetch-site", b"content-length")


def _name(address: str) -> str:
    try:
        return (urlsplit(f"//{address}").hostname or "").lower()
    except ValueError:
        return ""


def _with_headers(send: Send, *, static: bool) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {k.lower() for k, _ in message["headers"]}
            extra = HEADERS | ({} if static else {"cache-control": "no-store"})
            message["headers"] = [
                *message["headers"],
                *((k.encode(), v.encode()) for k, v in extra.items() if k.encode() not in given),
            ]
        await send(message)

    return sender


def _bounded(receive: Receive) -> Receive:
    """A chunked body has no length to look at beforehand: what comes beyond the bound is as if the client left."""
    seen = 0

    async def receiver() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > MAX_BODY:
                return {"type": "http.disconnect"}
        return message

    return receiver
