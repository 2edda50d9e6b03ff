"""stdio: one client, newline-delimited JSON on our stdin and stdout; both eras on one stream.

A message lives by the era it shows: a request with the modern envelope is modern, everything else belongs to the
handshake session.  Nothing but messages is written to stdout.  The end of stdin ends the client: what is in flight may
finish for a moment, then every sandbox stops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from gateway import eras
from gateway.calls import Outlet
from gateway.errors import BadRequest, CallCancelled
from gateway.gateway import Gateway
from gateway.limits import LIMITS
from gateway.messages import NOTIFICATION, REQUEST, decode, id_of, kind_of
from gateway.principals import LOCAL
from gateway.profiles.view import View
from gateway.replies import failure
from harbourmaster.core.errors import HarbourError

log = logging.getLogger("gateway.stdio")

LAST_WORDS_S: Final = 5.0  # how long calls in flight may run on when stdin has ended

Write = Callable[[bytes], None]


class StdioEdge:
    """Feed it lines with ``line``; it writes answers with ``write`` (which must not block)."""

    def __init__(self, gateway: Gateway, write: Write, view: View | None = None) -> None:
        self._router = gateway.router
        self._gateway = gateway
        self._outlet = _Stdout(write)
        self._session, self._modern = gateway.open_connection(LOCAL, LOCAL.key, view)
        self._session.stream = self._outlet
        self._tasks: set[asyncio.Task[None]] = set()

    def line(self, raw: bytes) -> None:
        """Take one line from the client."""
        if not raw.strip():
            return
        body: Any = None
        try:
            body = decode(raw)
            if isinstance(body, list):
                self._batch(body)
            else:
                self._take(body, kind_of(body))
        except BadRequest as e:
            self._say(failure(id_of(body), e)[0])

    def too_long(self) -> None:
        """A line was longer than a message may be."""
        self._say(failure(None, BadRequest(f"Invalid Request: a message may hold {LIMITS.body_bytes} bytes"))[0])

    async def finish(self, *, patient: bool) -> None:
        """Let go of everything; ``patient``: after the calls in flight have had a moment to end."""
        if self._tasks and patient:
            await asyncio.wait(self._tasks, timeout=LAST_WORDS_S)
        self._gateway.close(self._session)
        self._gateway.close(self._modern)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, body: dict[str, Any], kind: int) -> None:
        if kind == REQUEST:
            self._spawn(self._answer(body))
        elif kind == NOTIFICATION:
            self._spawn(self._note(body))  # tasks begin in order, so a cancellation finds the call it is about
        else:
            self._session.answered(body)

    def _batch(self, batch: list[Any]) -> None:
        if self._session.version != eras.BATCH_VERSION:
            raise BadRequest(f"Invalid Request: only {eras.BATCH_VERSION} has batches")
        if not 0 < len(batch) <= LIMITS.batch:
            raise BadRequest(f"Invalid Request: a batch holds 1 to {LIMITS.batch} messages")
        self._spawn(self._answer_batch(batch))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, body: dict[str, Any]) -> None:
        message = await self._reply(body)
        if message is not None:
            self._say(message)

    async def _answer_batch(self, batch: list[Any]) -> None:
        answers = await asyncio.gather(*(self._batched(body) for body in batch))
        messages = [a for a in answers if a is not None]
        if messages:
            self._say(b"[" + b",".join(messages) + b"]")

    async def _batched(self, body: Any) -> bytes | None:
        try:
            kind = kind_of(body)
            if kind == REQUEST and body["method"] == "initialize":
                raise BadRequest("Invalid Request: initialize cannot be part of a batch")
        except BadRequest as e:
            return failure(id_of(body), e)[0]
        if kind == REQUEST:
            return await self._reply(body)
        self._take(body, kind)
        return None

    async def _reply(self, body: dict[str, Any]) -> bytes | None:
        """The answer to a request; None when the client cancelled it and wants none."""
        if eras.has_envelope(body.get("params")) and body["method"] != "initialize":
            message, code = await self._modern_reply(body)
        elif not self._session.version and body["method"] not in ("initialize", "ping", "server/discover"):
            message, code = failure(body["id"], BadRequest("Invalid Request: initialize first"))
        elif body["method"] == "server/discover":
            message, code = await self._modern_reply(body)
        else:
            message, code = await self._router.handshake(self._session, body, self._outlet)
        return None if code == CallCancelled.rpc else message

    async def _modern_reply(self, body: dict[str, Any]) -> tuple[bytes, int]:
        try:
            envelope = eras.envelope(body.get("params"), body["method"], None)
        except HarbourError as e:
            return failure(body["id"], e)
        self._modern.adopt(envelope)
        return await self._router.modern(self._modern, body, self._outlet)

    async def _note(self, body: dict[str, Any]) -> None:
        self._session.notified(body)
        self._cancel_modern(body)

    def _cancel_modern(self, body: dict[str, Any]) -> None:
        request_id = body.get("params", {}).get("requestId")
        if body["method"] != "notifications/cancelled" or not isinstance(request_id, (str, int)):
            return
        call = self._modern.calls.get(request_id)
        if call is not None:
            self._modern.cancel(call, "cancelled by the client", CallCancelled("Request cancelled"))
        for listener in tuple(self._modern.listeners):
            if listener.request_id == request_id:
                listener.close()

    def _say(self, message: bytes) -> None:
        self._outlet.push(message)


class _Stdout(Outlet):
    def __init__(self, write: Write) -> None:
        self._write = write

    def push(self, message: bytes) -> bool:
        self._write(message + b"\n")
        return True
