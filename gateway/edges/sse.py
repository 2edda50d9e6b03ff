"""HTTP with SSE for old clients (2024-11-05, basic/transports): ``GET /sse`` is the session, ``POST /messages`` speaks in it.

The guard is that of ``/mcp``, which is served beside it: host, origin, token, profile (``/sse/NAME``).  Answers come on the
stream alone; when it ends, so does the session, with its sandboxes.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import parse_qs

from gateway import eras
from gateway.edges.bodies import read_body
from gateway.edges.guard import Guard, Headers, HttpRefusal, is_json
from gateway.edges.http import Caller, HttpEdge
from gateway.edges.streams import Receive, Send, StandingStream, send_body
from gateway.errors import BadRequest, CallCancelled
from gateway.gateway import Gateway
from gateway.limits import LIMITS
from gateway.messages import NOTIFICATION, REQUEST, decode, error_message, id_of, kind_of
from gateway.profiles.view import DEFAULT
from gateway.replies import failure
from gateway.sessions import Session
from harbourmaster.core.errors import HarbourError

STREAM_PATH: Final = "/sse"
MESSAGES_PATH: Final = "/messages"
SESSION: Final = "session_id"


class SseEdge(HttpEdge):
    def __init__(self, gateway: Gateway, guard: Guard) -> None:
        super().__init__(gateway, guard)
        self._tasks: set[asyncio.Task[None]] = set()

    async def _serve(self, scope: Any, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if (profile := _below(path, STREAM_PATH)) is not None:
            headers = self._guard.headers(scope["headers"])
            caller = self._caller(profile, headers)
            _only("GET", scope)
            await self._stream(caller, profile, headers, receive, send)
        elif (profile := _below(path, MESSAGES_PATH)) is not None:
            headers = self._guard.headers(scope["headers"])
            caller = self._caller(profile, headers)
            _only("POST", scope)
            await self._message(caller, scope, headers, receive, send)
        else:
            await super()._serve(scope, receive, send)

    async def _stream(self, caller: Caller, profile: str, headers: Headers, receive: Receive, send: Send) -> None:
        if not self._guard.accepts(headers)[1]:
            raise HttpRefusal(406, "http.accept", "Accept must allow text/event-stream")
        try:
            session = self._gateway.open_session(caller.principal, caller.view)
        except HarbourError as e:
            await send_body(send, 503, error_message(None, e))
            return
        stream = StandingStream(send, receive, [])
        place = MESSAGES_PATH if profile == DEFAULT else f"{MESSAGES_PATH}/{profile}"
        stream.first(
            b"event: endpoint\r\ndata: %s?%s=%s\r\n\r\n" % (place.encode(), SESSION.encode(), session.id.encode())
        )
        session.attach(stream)
        try:
            await stream.run()
        finally:
            session.detach(stream)
            self._gateway.close(session)

    async def _message(self, caller: Caller, scope: Any, headers: Headers, receive: Receive, send: Send) -> None:
        if not is_json(headers):
            raise HttpRefusal(415, "http.content_type", "Content-Type must be application/json")
        session = self._session_named(caller, scope["query_string"])
        raw = await read_body(headers, receive)
        session.used = session.loop.time()
        body: Any = None
        try:
            body = decode(raw)
            if isinstance(body, list):
                self._spawn(self._answer_batch(session, self._checked_batch(session, body)))
            else:
                self._take(session, body, kind_of(body))
        except BadRequest as e:
            await send_body(send, 400, failure(id_of(body), e)[0])
            return
        await send_body(send, 202, b"")

    def _session_named(self, caller: Caller, query: bytes) -> Session:
        named = parse_qs(query.decode("latin-1")).get(SESSION, [])
        if len(named) != 1:
            raise HttpRefusal(
                400, "session.missing", f"Bad Request: {SESSION} belongs in the address", remedy="open /sse"
            )
        session = self._sessions.get(named[0], caller.principal)
        if session is None or session.view is not caller.view:
            raise HttpRefusal(
                404, "session.unknown", "Session not found", remedy="open /sse again", principal=caller.principal.name
            )
        return session

    def _take(self, session: Session, body: dict[str, Any], kind: int) -> None:
        if kind == REQUEST:
            self._spawn(self._answer(session, body))
        elif kind == NOTIFICATION:
            self._spawn(self._note(session, body))  # tasks begin in order: a cancellation finds the call it is about
        else:
            session.answered(body)

    async def _answer(self, session: Session, body: dict[str, Any]) -> None:
        message = await self._reply(session, body)
        if message is not None:
            session.stream.push(message)

    async def _reply(self, session: Session, body: dict[str, Any]) -> bytes | None:
        """None when the client cancelled it and wants no answer."""
        if not session.version and body["method"] not in ("initialize", "ping"):
            return failure(body["id"], BadRequest("Invalid Request: initialize first"))[0]
        message, code = await self._router.handshake(session, body, session.stream)
        return None if code == CallCancelled.rpc else message

    def _checked_batch(self, session: Session, batch: list[Any]) -> list[Any]:
        if session.version != eras.BATCH_VERSION:
            raise BadRequest(f"Invalid Request: only {eras.BATCH_VERSION} has batches")
        if not 0 < len(batch) <= LIMITS.batch:
            raise BadRequest(f"Invalid Request: a batch holds 1 to {LIMITS.batch} messages")
        return batch

    async def _answer_batch(self, session: Session, batch: list[Any]) -> None:
        answers = await asyncio.gather(*(self._in_batch(session, body) for body in batch))
        if messages := [a for a in answers if a is not None]:
            session.stream.push(b"[" + b",".join(messages) + b"]")

    async def _in_batch(self, session: Session, body: Any) -> bytes | None:
        try:
            kind = kind_of(body)
            if kind == REQUEST and body["method"] == "initialize":
                raise BadRequest("Invalid Request: initialize cannot be part of a batch")
        except BadRequest as e:
            return error_message(id_of(body), e)
        if kind == REQUEST:
            return await self._reply(session, body)
        self._take(session, body, kind)
        return None

    async def _note(self, session: Session, body: dict[str, Any]) -> None:
        session.notified(body)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _below(path: str, base: str) -> str | None:
    """The profile that ``path`` names under ``base``; None when it is elsewhere."""
    if path == base:
        return DEFAULT
    return path[len(base) + 1 :] if path.startswith(f"{base}/") else None


def _only(method: str, scope: Any) -> None:
    if scope["method"] != method:
        raise HttpRefusal(
            405, "http.method", f"{scope['method']} is not allowed", headers=[(b"allow", method.encode())]
        )
