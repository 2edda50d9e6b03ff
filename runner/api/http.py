"""Bodies in, JSON and event streams out."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from harbourmaster.core.errors import HarbourError
from runner.api.errors import response_for
from runner.errors import Cancelled, EngineFailed, RequestInvalid, RequestTooLarge

MAX_BODY = 10 << 20  # bytes, as Docker's runner
MAX_DEPTH = 64
SEND = "runner.send"  # in a request's scope: the server's own ``send``, past what wraps it, for pieces of a stream


async def json_body(request: Request) -> dict[str, Any]:
    """Raises ``RequestTooLarge`` or ``RequestInvalid``."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_BODY:
                raise RequestTooLarge(f"the body is larger than {MAX_BODY} bytes", remedy="send less", limit=MAX_BODY)
            chunks.append(chunk)
    except ClientDisconnect:
        raise Cancelled("the client went away") from None
    try:
        body = orjson.loads(b"".join(chunks))
    except orjson.JSONDecodeError as e:
        raise RequestInvalid(f"the body is not JSON: {e}", remedy="send a JSON object") from None
    if not isinstance(body, dict):
        raise RequestInvalid("the body should be a JSON object", remedy="send a JSON object")
    return body


def client_of(request: Request) -> str:
    """Whom the queue is fair to: the bearer token if there is one, else the address."""
    return request.headers.get("authorization") or (request.client.host if request.client else "")


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, "application/json")


async def until_disconnect(request: Request, work: Any) -> Any:
    """Await ``work``; cancel it when the client goes away first."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([task, watch], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Cancelled("the client went away")
        return task.result()
    finally:
        for unfinished in (task, watch):
            if not unfinished.done():
                unfinished.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Events(StreamingResponse):
    """A stream whose first piece is awaited before the status line, so that early errors are proper responses.

    ``encode_error`` turns a later error into a last piece.  The generator is closed when the client goes away, which
    cancels the request in the engine.
    """

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], encode_error: Callable[[HarbourError], bytes], media_type: str
    ) -> None:
        super().__init__(
            pieces, media_type=media_type, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        )
        self._pieces, self._encode_error = pieces, encode_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        first = asyncio.ensure_future(anext(self._pieces, b""))
        watch = asyncio.ensure_future(_gone(Request(scope, receive)))
        try:
            await asyncio.wait([first, watch], return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                return
            error = first.exception()
            if isinstance(error, HarbourError):
                await response_for(error, scope["path"])(scope, receive, send)
                return
            sending = asyncio.ensure_future(self._send_all(first.result(), send, scope.get(SEND, send)))
            await asyncio.wait([sending, watch], return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        finally:
            first.cancel()
            watch.cancel()
            await asyncio.gather(first, watch, return_exceptions=True)
            await self._pieces.aclose()

    async def _send_all(self, first: bytes, send: Send, send_piece: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send_piece({"type": "http.response.body", "body": first, "more_body": True})
        try:
            async for piece in self._pieces:
                await send_piece({"type": "http.response.body", "body": piece, "more_body": True})
        except HarbourError as e:
            await send({"type": "http.response.body", "body": self._encode_error(e), "more_body": True})
        except (AssertionError, LookupError, TypeError, ValueError) as e:
            wrapped = EngineFailed(f"a fault of the runner: {type(e).__name__}: {e}")
            await send({"type": "http.response.body", "body": self._encode_error(wrapped), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def sse(body: Any) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


class Phrase:
    """Events of one stream that differ in one text alone, made once: ``phrase(text)`` is ``make(text)``.

    >>> say = Phrase(lambda text: sse({"text": text}))
    >>> say('"Hi"')
    b'data: {"text":"\\\\"Hi\\\\""}\\n\\n'
    """

    __slots__ = ("_head", "_tail")

    def __init__(self, make: Callable[[str], bytes]) -> None:
        mark = secrets.token_hex(16)  # what no other text in it has
        self._head, self._tail = make(mark).split(orjson.dumps(mark))

    def __call__(self, text: str) -> bytes:
        return self._head + orjson.dumps(text) + self._tail


SSE_DONE = b"data: [DONE]\n\n"  # OpenAI API reference, "streaming"
