"""What both transports have in common: the place of a sandbox (``gateway.upstream.Sandbox``) for a server elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.errors import BadRequest, wire_error
from gateway.messages import RequestId, decode, encode, is_request_id
from gateway.remote.errors import (
    LoginRequired,
    RemoteClosed,
    RemoteFailed,
    RemoteForbidden,
    RemoteRedirected,
    ScopeRequired,
)
from gateway.remote.net import Head, Headers, Response, Web
from gateway.upstream import OnExit, OnLine
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.redaction import IN_USE
from sandbox.attach import MAX_LINE_BYTES

log = logging.getLogger("gateway.remote")

MAX_IN_FLIGHT: Final = 512  # messages on their way to one server for one client: twice its calls
MAX_REFUSAL: Final = 64 * 1024  # of a body that only explains a status
ATTEMPTS: Final = 3  # of one message: with the token we have, one that someone got meanwhile, and a renewed one
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 30.0
# What comes later relies on these; all else may overtake: each message has a connection of its own
IN_ORDER: Final = frozenset({"notifications/initialized", "logging/setLevel"})


@dataclass(frozen=True)
class Ended:
    """Why a connection is over, in the words of ``gateway.upstream.Exit``."""

    reason: str
    limit: HarbourError | None = None
    status: int | None = None
    oom: bool = False
    stderr: str = ""


class Credentials(Protocol):
    async def headers(self) -> Headers:
        """What to send now; may renew a token first."""
        ...

    async def refused(self, head: Head, sent: Headers) -> bool:
        """The server answered 401 or 403 to ``sent``: whether to try once more.  Raises ``LoginRequired``, ``ScopeRequired``."""
        ...

    async def close(self) -> None:
        """Nothing more is asked of it."""
        ...


class FixedHeaders:
    """Headers from the entry's templates."""

    def __init__(self, server: str, headers: Headers) -> None:
        self._server = server
        self._headers = headers

    async def headers(self) -> Headers:
        return self._headers

    async def refused(self, head: Head, sent: Headers) -> bool:
        if head.status == 401:
            remedy = f"set its secret again (hm secret ls), or log in: hm server login {self._server}"
            raise LoginRequired(f"{self._server} does not know who is calling (HTTP 401)", remedy=remedy)
        return False

    async def close(self) -> None:
        """There is nothing to end."""


class Box:
    """One connection to one remote server on behalf of one client; never shared."""

    def __init__(
        self, server: str, url: str, web: Web, credentials: Credentials, on_line: OnLine, on_exit: OnExit
    ) -> None:
        self.id = self.name = f"remote-{secrets.token_hex(6)}"
        self.server = server
        self.url = url
        self._web = web
        self._credentials = credentials
        self._on_line = on_line
        self._on_exit = on_exit
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False
        self.refusal: LoginRequired | ScopeRequired | None = None  # the last one: for whoever can log in

    # -- the sandbox's interface

    def write(self, data: bytes) -> None:
        """Whole lines, each a message.  Raises ``RemoteClosed`` after the end, or with too many on their way."""
        if self._over:
            raise RemoteClosed(f"the connection to {self.server} is over", remedy="call again")
        for line in data.split(b"\n"):
            if line:
                self.send(decode(line), line)

    async def drain(self) -> None:
        """Each message has a request of its own: there is no common buffer to wait for."""

    def stderr_tail(self) -> str:
        return ""

    def limit_in(self, text: str) -> None:
        """It runs elsewhere, within limits that are not ours."""

    async def starved(self, waited_s: float) -> None:
        """Nor do we know how busy it is there."""

    async def memory_mb(self) -> float:
        """What it takes here; its own memory is elsewhere."""
        return 0.0

    async def stop(self, *, grace_s: float = 2.0) -> None:
        if not self._over:
            self._over = True
            with contextlib.suppress(TimeoutError, HarbourError):
                async with asyncio.timeout(grace_s):
                    await self.farewell()
            self._on_exit(Ended("the connection was closed"))
        current = asyncio.current_task()
        waiting = [task for task in self._tasks if task is not current]
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)

    # -- for the transports

    def send(self, body: dict[str, Any], line: bytes) -> None:
        raise TypeError("a transport must say how it sends")

    async def farewell(self) -> None:
        """Tell the server that we leave, where the transport can."""

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.end(error)

    def end(self, error: BaseException) -> None:
        """It cannot go on: whatever waits fails with ``error``, and the next call connects anew."""
        if self._over:
            return
        self._over = True
        if not isinstance(error, HarbourError):
            log.error("the connection to %s broke", self.server, exc_info=error)
            error = RemoteFailed(f"the connection to {self.server} broke", remedy="call again")
        self._on_exit(Ended(error.message, error))
        for task in tuple(self._tasks):
            task.cancel()

    async def refused(self, response: Response, sent: Headers, attempt: int = 0) -> bool:
        """Whether the server wants other credentials, and there are some to try.  Raises ``LoginRequired``, ``ScopeRequired``."""
        if response.status not in (401, 403) or attempt + 1 >= ATTEMPTS:
            return False
        return await self._credentials.refused(response, sent)

    def hear(self, data: bytes) -> Any:
        """Pass on one message; what it was, parsed, or None when it was none."""
        if self._over:
            return None
        try:
            body = decode(data)
        except BadRequest:
            body = None
        for each in body if isinstance(body, list) else (body,):  # 2025-03-26 has batches
            self._on_line(data if each is body else encode(each))
        return body

    def fail(self, request_id: RequestId | None, error: HarbourError) -> None:
        """Answer a request with ``error``; what nobody waits for goes to the log."""
        if isinstance(error, LoginRequired | ScopeRequired):
            self.refusal = error
        if request_id is None:
            log.warning("%s: %s [%s]", self.server, IN_USE.redact(error.message), error.code)
        elif not self._over:
            self._on_line(encode({"jsonrpc": "2.0", "id": request_id, "error": wire_error(error)}))

    async def explain(self, response: Response, request_id: RequestId | None) -> bytes | None:
        """Of a refusal: the JSON-RPC error in its body as an answer to ``request_id``.  Else raises what the status means."""
        if response.kind == "application/json" and request_id is not None:
            raw = await response.body(MAX_REFUSAL)
            answer = _error_in(raw, request_id)
            if answer is not None:
                return answer
        raise refusal(self.server, response)


def refusal(server: str, head: Head) -> HarbourError:
    if 300 <= head.status < 400:
        where = head.header(b"location")[:200]
        return RemoteRedirected(
            f"{server} answers with a redirect (HTTP {head.status}) to {where or 'nowhere'}, which is not followed",
            remedy="if the new address is right, add the server with it: hm server add",
        )
    if head.status in (401, 403):
        return RemoteForbidden(f"{server} refuses this (HTTP {head.status})", remedy=f"hm server login {server}")
    remedy = (
        "is the address right? an older server wants: --transport sse" if head.status in (404, 405) else "try again"
    )
    return RemoteFailed(f"{server} answered HTTP {head.status}", remedy=remedy)


def _error_in(raw: bytes, request_id: RequestId) -> bytes | None:
    try:
        body = decode(raw)
    except BadRequest:
        return None
    if not isinstance(body, dict) or not isinstance(body.get("error"), dict) or "code" not in body["error"]:
        return None
    if body.get("id") not in (None, request_id):
        return None
    return encode({**body, "jsonrpc": "2.0", "id": request_id})


def request_id_of(body: dict[str, Any]) -> RequestId | None:
    """Of a request; responses and notifications have none that anyone waits for."""
    found = body.get("id") if "method" in body else None
    return found if is_request_id(found) else None


def answers(body: Any, request_id: RequestId | None) -> bool:
    """Whether ``body`` holds the response to ``request_id``."""
    found = body if isinstance(body, list) else [body]
    return any(isinstance(b, dict) and "method" not in b and b.get("id") == request_id for b in found)


async def whole(response: Response) -> bytes:
    return await response.body(MAX_LINE_BYTES)
