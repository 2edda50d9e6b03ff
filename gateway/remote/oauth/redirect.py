"""How the authorization server's answer comes back: to a listener on loopback, or pasted by the person (RFC 8252 section 7.3)."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
from collections.abc import Awaitable, Callable
from typing import Final, Protocol
from urllib.parse import parse_qsl, urlsplit

from gateway.remote.oauth.errors import NobodyAnswered, RedirectForged

PATH: Final = "/callback"
WAIT_S: Final = 300.0  # a person looks for a password, and perhaps a telephone
REQUEST_S: Final = 10.0
MAX_HEAD: Final = 16 * 1024
_PAGE: Final = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>Harbourmaster</title>"
    b"<p>%s You can close this page and go back to the terminal.</p></html>"
)

Answer = dict[str, str]


class Redirect(Protocol):
    @property
    def uri(self) -> str: ...
    async def answer(self, url: str, state: str) -> Answer:
        """Send the person to ``url``; the parameters they came back with.  Raises ``NobodyAnswered``, ``RedirectForged``."""
        ...


def parameters(query: str) -> Answer:
    """Raises ``RedirectForged`` when one is there twice: two readers could take different ones."""
    pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=50)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RedirectForged("the answer says something twice", remedy="log in again")
    return found


class Pasted:
    """For machines without a browser: the person pastes the address that their browser could not open."""

    def __init__(self, ask: Callable[[str], Awaitable[str]], port: int = 0) -> None:
        self._ask = ask
        # Port 1: nobody listens there, and the browser's address bar keeps the answer
        self.uri = f"http://127.0.0.1:{port or 1}{PATH}"

    async def answer(self, url: str, state: str) -> Answer:
        text = (await self._ask(url)).strip()
        parts = urlsplit(text)
        if not parts.query:
            raise RedirectForged(
                "that is not the address you were sent to", remedy="paste the whole address, from http on"
            )
        return parameters(parts.query)


class Listener:
    """Usage: ``async with Listener(show) as redirect``.  ``show`` brings the address before the person."""

    def __init__(self, show: Callable[[str], None], port: int = 0, wait_s: float = WAIT_S) -> None:
        self._show = show
        self._wait_s = wait_s
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._sock.bind(("127.0.0.1", port))
        except OSError:
            if not port:
                raise
            self._sock.bind(("127.0.0.1", 0))  # the port of last time is taken: another, and a new registration
        self.port: int = self._sock.getsockname()[1]
        self._state = ""
        self._server: asyncio.Server | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    async def __aenter__(self) -> Listener:
        self._came: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._server = await asyncio.start_server(self._serve, sock=self._sock, limit=MAX_HEAD)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def answer(self, url: str, state: str) -> Answer:
        self._state = state
        self._show(url)
        try:
            async with asyncio.timeout(self._wait_s):
                return await self._came
        except TimeoutError:
            raise NobodyAnswered(
                f"nobody came back from the login within {self._wait_s:g} s",
                remedy="try again; on a machine without a browser: --no-browser",
            ) from None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, text = self._take(head.decode("latin-1"))
                page = _PAGE % text
                writer.write(
                    b"HTTP/1.1 %s\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n"
                    b"Referrer-Policy: no-referrer\r\nCache-Control: no-store\r\nConnection: close\r\n"
                    b"Content-Security-Policy: default-src 'none'\r\n\r\n%s" % (status, len(page), page)
                )
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def _take(self, head: str) -> tuple[bytes, bytes]:
        """What is not the answer to our question changes nothing: any page may send a browser here."""
        first, *fields = head.split("\r\n")
        method, _, rest = first.partition(" ")
        target = urlsplit(rest.rpartition(" ")[0])
        host = next((f.partition(":")[2].strip() for f in fields if f.lower().startswith("host:")), "")
        if method != "GET" or target.path != PATH or host not in (f"127.0.0.1:{self.port}", f"localhost:{self.port}"):
            return b"404 Not Found", b"There is nothing here."
        try:
            answer = parameters(target.query)
        except (RedirectForged, ValueError):
            return b"400 Bad Request", b"This is no answer."
        if not self._state or not hmac.compare_digest(answer.get("state", "").encode(), self._state.encode()):
            return b"400 Bad Request", b"This is not the answer to our question."
        if not self._came.done():
            self._came.set_result(answer)
        return b"200 OK", b"Thank you." if "code" in answer else b"The login was refused."
