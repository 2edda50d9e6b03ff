"""Streamable HTTP, both eras, as a bare ASGI application: ``/mcp`` and ``/mcp/PROFILE`` (POST, GET,
DELETE) and ``/healthz``.

Rules of the wire: 2025-11-25 basic/transports "Streamable HTTP" (sessions, 202, 404, one standing GET stream) and
2026-07-28 basic/transports (no session, routing headers, HTTP statuses for JSON-RPC errors, closing cancels).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, NamedTuple

from gateway import eras
from gateway.edges.admin import PREFIX as ADMIN
from gateway.edges.admin import AdminEdge
from gateway.edges.bodies import Gone, read_body
from gateway.edges.exchange import Exchange
from gateway.edges.guard import AUTHENTICATE, Guard, Headers, HttpRefusal, is_json
from gateway.edges.heads import BODY, HEAD, HEADS, Head
from gateway.edges.said import SESSION, VERSION, Lookup, Said, is_modern, param_headers, session_of
from gateway.edges.streams import (
    PLAIN,
    PostStream,
    RawHeaders,
    Receive,
    ResumedStream,
    Send,
    StandingStream,
    send_body,
    send_text,
)
from gateway.errors import LIMIT_REACHED, REFUSED, BadRequest
from gateway.gateway import SERVER_INFO, Gateway
from gateway.limits import LIMITS
from gateway.messages import NOTIFICATION, REQUEST, decode, encode, error_message, id_of, kind_of
from gateway.principals import Principal
from gateway.profiles.errors import ProfileError, ProfileForbidden
from gateway.profiles.view import DEFAULT, View
from gateway.refusals import refused
from gateway.replay import StreamLog
from gateway.replies import Reply, failure
from gateway.sessions import Session
from gateway.telemetry.gauges import gauges
from gateway.telemetry.metrics import CONTENT_TYPE
from gateway.telemetry.traces import adopt
from harbourmaster.core.errors import HarbourError

log = logging.getLogger("gateway.http")

PATH: Final = "/mcp"
HEALTH_PATH: Final = "/healthz"
METRICS_PATH: Final = "/metrics"

_RESUMABLE: Final = frozenset({"2025-11-25"})  # earlier clients choke on an event without data (SEP-1699)
_NO_HEADERS: Final[RawHeaders] = []


class Caller(NamedTuple):
    principal: Principal
    view: View  # of the profile whose path was asked for


class HttpEdge:
    def __init__(self, gateway: Gateway, guard: Guard) -> None:
        self._gateway = gateway
        self._router = gateway.router
        self._sessions = gateway.sessions
        self._guard = guard
        self._admin = AdminEdge(gateway, guard)
        oauth = guard.oauth.config if guard.oauth is not None else None
        self._finishing: set[asyncio.Task[None]] = set()
        self._metadata = encode(oauth.metadata()) if oauth is not None else None  # RFC 9728
        self._metadata_paths = oauth.metadata_paths if oauth is not None else frozenset()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise TypeError(f"unsupported ASGI scope: {scope['type']}")
        try:
            head: Head | None = scope["extensions"].get(HEAD)
            known: Said | None = head.said if head is not None else None
            if known is not None and scope["path"] == PATH and self._guard.oauth is None:  # nearly every request
                await self._posted(self._caller(DEFAULT, known.headers), known, scope, receive, send)
            else:
                await self._serve(scope, receive, send)
        except HttpRefusal as e:
            await self._turn_away(scope, e, send)
        except ProfileError as e:
            who = e.details.get("principal", "")
            await self._turn_away(scope, HttpRefusal(e.status, e.code, e.message, remedy=e.remedy, principal=who), send)
        except Gone:
            return

    async def _turn_away(self, scope: Any, refusal: HttpRefusal, send: Send) -> None:
        self._gateway.metrics.refusals[refusal.code] += 1
        told = refused(
            refusal.status,
            refusal.code,
            scope["path"],
            (scope.get("client") or ("",))[0],
            host=_header(scope, b"host"),
            origin=_header(scope, b"origin"),
            principal=refusal.principal,
        )
        if told is not None:
            self._gateway.refusals.note(told, asyncio.get_running_loop().time())
        await send_body(send, refusal.status, refusal.body, refusal.headers)

    async def _serve(self, scope: Any, receive: Receive, send: Send) -> None:
        headers, path = self._guard.headers(scope["headers"]), scope["path"]
        if path == HEALTH_PATH:
            self._guard.check_host(headers)
            await send_body(send, 200, b'{"status":"ok"}')
            return
        if self._metadata is not None and path in self._metadata_paths:
            self._guard.check_host(headers)
            await send_body(send, 200, self._metadata)
            return
        if self._guard.oauth is not None:
            await self._guard.prepare(headers)
        if path == METRICS_PATH:
            await self._metrics(scope["method"], headers, send)
            return
        if path.startswith(ADMIN):
            await self._admin(scope, headers, receive, send)
            return
        await self._mcp(self._caller(_profile_of(path), headers), headers, scope, receive, send)

    async def _mcp(self, caller: Caller, headers: Headers, scope: Any, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method == "POST":
            await self._post(caller, headers, scope, receive, send)
        elif method == "GET" and not is_modern(headers):
            await self._get(caller, headers, receive, send)
        elif method == "DELETE" and not is_modern(headers):
            self._gateway.close(self._session(caller, session_of(headers)))
            await send_body(send, 204, b"")
        else:
            allowed = b"POST" if is_modern(headers) else b"POST, GET, DELETE"
            raise HttpRefusal(405, "http.method", f"{method} is not allowed", headers=[(b"allow", allowed)])

    async def _metrics(self, method: str, headers: Headers, send: Send) -> None:
        principal = self._guard.principal(headers)
        if not (principal.admin or "metrics" in principal.scopes):
            remedy = "use a token for it: hm token create NAME --scope metrics"
            raise HttpRefusal(
                403, "metrics.scope", "this token may not read metrics", remedy=remedy, principal=principal.name
            )
        if method != "GET":
            raise HttpRefusal(405, "http.method", f"{method} is not allowed", headers=[(b"allow", b"GET")])
        text = self._gateway.metrics.text(gauges(self._gateway, SERVER_INFO["version"]))
        await send_text(send, text, CONTENT_TYPE)

    def _caller(self, profile: str, headers: Headers) -> Caller:
        """Raises ``HttpRefusal``, ``ProfileError``; a token of other profiles does not learn which there are."""
        principal = self._guard.principal(headers)
        if not principal.may_use(profile):
            raise ProfileForbidden(
                f"this token may not use the profile {profile!r:.80}",
                remedy="use a token for it: hm token create NAME --profile PROFILE",
                principal=principal.name,
            )
        return Caller(principal, self._gateway.view(profile))

    # -- POST

    async def _post(self, caller: Caller, headers: Headers, scope: Any, receive: Receive, send: Send) -> None:
        if not is_json(headers):
            raise HttpRefusal(415, "http.content_type", "Content-Type must be application/json")
        json, sse = self._guard.accepts(headers)
        if not (json or sse):
            raise HttpRefusal(406, "http.accept", "Accept must allow application/json or text/event-stream")
        said = Said(
            headers=headers,
            json=json,
            sse=sse,
            modern=is_modern(headers),
            session=session_of(headers),
            traced=b"traceparent" in headers,
            usual=scope["path"] == PATH and SESSION in headers and not is_modern(headers),
        )
        head: Head | None = scope["extensions"].get(HEAD)
        if head is not None and head.length <= LIMITS.body_bytes:
            HEADS.keep(head, said)
        await self._posted(caller, said, scope, receive, send)

    async def _posted(self, caller: Caller, said: Said, scope: Any, receive: Receive, send: Send) -> None:
        raw = scope.get(BODY)
        if raw is None:
            raw = await read_body(said.headers, receive)
        outlet = PostStream(send, receive, json=said.json, sse=said.sse, headers=_NO_HEADERS)
        body: Any = None
        try:
            body = decode(raw)
            if isinstance(body, list):
                await self._batch(self._session(caller, said.session), body, outlet, send)
                return
            kind = kind_of(body)
        except BadRequest as e:
            message, code = failure(id_of(body), e)
            await send_body(send, eras.HTTP_STATUS.get(code, 400), message)
            return
        if said.traced and kind == REQUEST:
            adopt(body.setdefault("params", {}), said.headers)
        if said.modern or eras.has_envelope(body.get("params")):
            await self._modern(caller, kind, body, said.headers, scope, outlet, send)
        elif kind == REQUEST and body["method"] == "initialize":
            await self._initialize(caller, body, outlet, send)
        elif kind == REQUEST:
            session = self._session(caller, said.session)
            if session.version in _RESUMABLE:
                outlet.resumable(session.replay)
            message, code = await self._router.handshake(session, body, outlet)
            await outlet.finish(message, (self._refused(caller, code, outlet) or 200) if code else 200)
        else:
            _take(self._session(caller, said.session), kind, body)
            await send_body(send, 202, b"")

    def at_once(self, exchange: Exchange, said: Said, raw: bytes) -> bool:
        """Take a call that need not wait for anything; what is not one is left as it is, for ``__call__``."""
        if not said.usual or said.session is None or self._guard.oauth is not None:
            return False
        try:
            caller = self._caller(DEFAULT, said.headers)
            body = decode(raw)
            if kind_of(body) != REQUEST or eras.has_envelope(body.get("params")):
                return False
            session = self._session(caller, said.session)
        except (HttpRefusal, ProfileError, BadRequest):
            return False  # and why is said there
        receive: Any = exchange.receive
        outlet = PostStream(exchange.send, receive, json=said.json, sse=said.sse, headers=_NO_HEADERS)
        if session.version in _RESUMABLE:
            outlet.resumable(session.replay)

        def then(reply: Reply) -> None:
            message, code = reply
            if code or outlet.begun or exchange.flow.write_paused or not said.json:
                self._finish(outlet, message, (self._refused(caller, code, outlet) or 200) if code else 200)
            elif not exchange.disconnected:
                exchange.answer(200, PLAIN, message)

        return self._router.at_once(session, body, outlet, then)

    def _finish(self, outlet: PostStream, message: bytes, status: int) -> None:
        """Answer where that may have to wait for the client."""
        task = asyncio.get_running_loop().create_task(outlet.finish(message, status))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def _initialize(self, caller: Caller, body: dict[str, Any], outlet: PostStream, send: Send) -> None:
        """A handshake client begins a session."""
        try:
            session = self._gateway.open_session(caller.principal, caller.view)
        except HarbourError as e:
            await send_body(send, 503, error_message(body["id"], e))
            return
        message, code = await self._router.handshake(session, body, outlet)
        if code:
            self._gateway.close(session)
        else:
            outlet.add_header(SESSION, session.id.encode())
        await outlet.finish(message)

    async def _batch(self, session: Session, batch: list[Any], outlet: PostStream, send: Send) -> None:
        if session.version != eras.BATCH_VERSION:
            raise BadRequest(f"Invalid Request: only {eras.BATCH_VERSION} has batches")
        if not 0 < len(batch) <= LIMITS.batch:
            raise BadRequest(f"Invalid Request: a batch holds 1 to {LIMITS.batch} messages")
        answers = await asyncio.gather(*(self._batched(session, body, outlet) for body in batch))
        messages = [a for a in answers if a is not None]
        if messages:
            await outlet.finish(b"[" + b",".join(messages) + b"]")
        else:
            await send_body(send, 202, b"")

    async def _batched(self, session: Session, body: Any, outlet: PostStream) -> bytes | None:
        try:
            kind = kind_of(body)
            if kind == REQUEST and body["method"] == "initialize":
                raise BadRequest("Invalid Request: initialize cannot be part of a batch")
        except BadRequest as e:
            return error_message(id_of(body), e)
        if kind != REQUEST:
            _take(session, kind, body)
            return None
        message, _ = await self._router.handshake(session, body, outlet)
        return message

    async def _modern(
        self,
        caller: Caller,
        kind: int,
        body: dict[str, Any],
        headers: Headers,
        scope: Any,
        outlet: PostStream,
        send: Send,
    ) -> None:
        try:
            if kind == NOTIFICATION:  # the revision defines none over HTTP: acknowledged, and dropped
                eras.require_modern(headers.get(VERSION, b"").decode("latin-1"))
                await send_body(send, 202, b"")
                return
            if kind != REQUEST:
                raise BadRequest("Invalid Request: a client of this revision sends no responses")
            look_up = Lookup(headers)
            envelope = eras.envelope(body.get("params"), body["method"], look_up)
        except BadRequest as e:
            message, code = failure(id_of(body), e)
            await send_body(send, eras.HTTP_STATUS.get(code, 400), message)
            return
        if body["method"] == "subscriptions/listen" and not self._guard.accepts(headers)[1]:
            raise HttpRefusal(406, "http.accept", "subscriptions/listen answers with text/event-stream")
        try:
            client = self._gateway.modern_client(caller.principal, envelope.client_info, caller.view)
        except HarbourError as e:
            await send_body(send, 503, error_message(body["id"], e))
            return
        client.adopt(envelope)
        message, code = await self._modern_reply(client, body, scope, outlet)
        refused = self._refused(caller, code, outlet)
        await outlet.finish(message, refused or eras.HTTP_STATUS.get(code, 200))

    def _refused(self, caller: Caller, code: int, outlet: PostStream) -> int:
        """Headers that a refusal wants: when to come back (RFC 9110 section 10.2.3), or which scopes would help (2025-11-25,
        basic/authorization "Runtime Insufficient Scope Errors"), and then its status.  0: as the revision has it."""
        if code not in (LIMIT_REACHED, REFUSED):
            return 0
        wait = getattr(outlet.refused, "retry_after_s", None)
        if wait is not None:
            outlet.add_header(b"retry-after", b"%d" % wait)
        challenge = self._guard.more_scopes(caller.principal, getattr(outlet.refused, "scopes", ()))
        if challenge:
            outlet.add_header(AUTHENTICATE, challenge)
        return 403 if challenge else 0

    async def _modern_reply(self, client: Any, body: dict[str, Any], scope: Any, outlet: PostStream) -> Reply:
        outlet.task = asyncio.current_task()
        try:
            return await self._router.modern(client, body, outlet, param_headers(scope["headers"]))
        except asyncio.CancelledError:
            if outlet.gone and outlet.task is not None:
                outlet.task.uncancel()
                raise Gone from None
            raise
        finally:
            outlet.task = None  # it goes on to the next request of this connection

    # -- GET, sessions

    async def _get(self, caller: Caller, headers: Headers, receive: Receive, send: Send) -> None:
        if not self._guard.accepts(headers)[1]:
            raise HttpRefusal(406, "http.accept", "Accept must allow text/event-stream")
        session = self._session(caller, session_of(headers))
        lost = self._lost_stream(session, headers)
        if lost is not None and lost[0] is not session.replay.standing:
            await ResumedStream(send, receive, _NO_HEADERS).carry(*lost)
            return
        resumable = session.version in _RESUMABLE
        stream = StandingStream(send, receive, _NO_HEADERS, session.replay.standing if resumable else None)
        if lost is not None:
            stream.repeat(lost[0].after(lost[1]))
        session.stream.close()  # one standing stream per session: a client that reconnects takes over
        session.attach(stream)
        try:
            await stream.run()
        finally:
            session.detach(stream)
            session.used = session.loop.time()

    def _lost_stream(self, session: Session, headers: Headers) -> tuple[StreamLog, int] | None:
        """The stream that the client comes back to, and how far it had heard; unknown ids begin anew."""
        last = headers.get(b"last-event-id")
        return session.replay.find(last.decode("latin-1")) if last is not None else None

    def _session(self, caller: Caller, session_id: str | None) -> Session:
        """The caller's session; one of another principal or another profile looks like none at all."""
        if session_id is None:
            raise HttpRefusal(400, "session.missing", "Bad Request: Missing session ID", remedy="initialize first")
        session = self._sessions.get(session_id, caller.principal)
        if session is None or session.view is not caller.view:
            raise HttpRefusal(
                404,
                "session.unknown",
                "Session not found",
                remedy="initialize a new session",
                principal=caller.principal.name,
            )
        return session


def _profile_of(path: str) -> str:
    """``/mcp`` is the profile ``default``, ``/mcp/NAME`` the profile NAME.  Raises ``HttpRefusal``."""
    if path == PATH:
        return DEFAULT
    if not path.startswith(PATH + "/"):
        raise HttpRefusal(404, "http.not_found", f"there is nothing here; the gateway is at {PATH}")
    return path[len(PATH) + 1 :]


def _header(scope: Any, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _take(session: Session, kind: int, body: dict[str, Any]) -> None:
    session.used = session.loop.time()
    if kind == NOTIFICATION:
        session.notified(body)
    else:
        session.answered(body)
