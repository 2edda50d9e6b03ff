"""Streamable HTTP towards a server, both eras: every message is a POST; answers come as JSON or as an event stream.

handshake  the server may name a session; a standing GET stream carries what it says unasked; a stream that breaks before
           its answer is taken up again with Last-Event-ID (2025-11-25, basic/transports, SEP-1699).
modern     no session and no GET; closing a request's connection cancels it; ``subscriptions/listen`` is a POST whose
           stream stays open, and is asked for again when it breaks.

A session that the server forgot ends the connection with an error: the next call shakes hands anew, and what the server
then lists is held to the lock again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from gateway import sdk
from gateway.errors import BadRequest
from gateway.messages import RequestId, decode, encode, notification
from gateway.remote.box import (
    ATTEMPTS,
    FIRST_RETRY_S,
    IN_ORDER,
    LAST_RETRY_S,
    MAX_IN_FLIGHT,
    Box,
    Credentials,
    answers,
    request_id_of,
    whole,
)
from gateway.remote.errors import (
    LoginRequired,
    RemoteCut,
    RemoteFailed,
    RemoteSessionLost,
    RemoteUnreachable,
    ScopeRequired,
)
from gateway.remote.headers import ACCEPT, ACCEPT_EVENTS, JSON, Routing, trace
from gateway.remote.net import HTTP_ERRORS, Headers, Response, Web
from gateway.remote.sse import Events
from gateway.upstream import OnExit, OnLine
from harbourmaster.core.errors import HarbourError, RefusedError

log = logging.getLogger("gateway.remote")

RESUMES: Final = 5  # attempts to take up one broken stream without hearing anything new
MAX_SESSION_ID: Final = 1024  # visible ASCII (2025-11-25, "Session Management"); no length is given there
LISTEN: Final = "subscriptions/listen"
_CHANGES: Final = {
    "toolsListChanged": "notifications/tools/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
}


class StreamableBox(Box):
    def __init__(
        self,
        server: str,
        url: str,
        web: Web,
        credentials: Credentials,
        on_line: OnLine,
        on_exit: OnExit,
        *,
        modern: bool,
        routing: Routing,
    ) -> None:
        super().__init__(server, url, web, credentials, on_line, on_exit)
        self._modern = modern
        self._routing = routing
        self._session: Headers = []
        self._version: Headers = []
        self._barrier: asyncio.Task[None] | None = None
        self._asked: dict[RequestId, asyncio.Task[None]] = {}
        self._tool_lists: set[RequestId] = set()  # requests

    # -- towards the server

    def send(self, body: dict[str, Any], line: bytes) -> None:
        method, request_id = body.get("method"), request_id_of(body)
        if method == "notifications/cancelled" and self._cancelled(body.get("params", {}).get("requestId")):
            return
        if len(self._tasks) >= MAX_IN_FLIGHT:
            raise RemoteUnreachable(
                f"{MAX_IN_FLIGHT} messages are on their way to {self.server}", remedy="wait for some to be answered"
            )
        task = self.start(self._listen(body) if method == LISTEN else self._post(body, line, self._barrier))
        if method in IN_ORDER:
            self._barrier = task
        if request_id is not None:
            if self._modern and method == "tools/list":
                self._tool_lists.add(request_id)
            self._asked[request_id] = task
            task.add_done_callback(lambda _: self._asked.pop(request_id, None))

    def _cancelled(self, request_id: Any) -> bool:
        """Drop the request's connection; for a modern server that is all there is to say."""
        task = self._asked.get(request_id) if isinstance(request_id, str | int) else None
        if task is not None:
            task.cancel()
        return self._modern

    async def _post(self, body: dict[str, Any], line: bytes, after: asyncio.Task[None] | None) -> None:
        request_id = request_id_of(body)
        if after is not None and not after.done():
            await asyncio.wait({after})
        try:
            await self._exchange(body, line, request_id)
        except RemoteSessionLost:
            raise
        except HarbourError as e:
            if body.get("method") in ("initialize", "server/discover"):
                raise
            self.fail(request_id, e)
        if body.get("method") == "notifications/initialized" and not self._modern:
            self.start(self._stand())

    async def _exchange(self, body: dict[str, Any], line: bytes, request_id: RequestId | None) -> None:
        headers, broken = self._headers(body), None
        for attempt in range(ATTEMPTS):
            sent = await self._credentials.headers()
            async with self._web.request("POST", self.url, [*headers, *sent], line, read_s=None) as response:
                if await self.refused(response, sent, attempt):
                    continue
                if body.get("method") == "initialize":
                    self._name_session(response)
                broken = await self._take(response, request_id)
            break
        if broken is not None and request_id is not None:
            await self._resume(broken, request_id)

    def _headers(self, body: dict[str, Any]) -> Headers:
        if self._modern:
            return [JSON, ACCEPT, *trace(body), *(self._routing.modern(body) if "method" in body else ())]
        return [JSON, ACCEPT, *trace(body), *self._session, *self._version]

    # -- from the server

    def hear(self, data: bytes) -> Any:
        if self._tool_lists:
            data = self._without_bad_tools(data)
        return super().hear(data)

    def _without_bad_tools(self, data: bytes) -> bytes:
        """A tool whose header annotations are invalid is not offered (2026-07-28, transports "Custom Headers")."""
        with contextlib.suppress(BadRequest):
            body = decode(data)
            result = body.get("result") if isinstance(body, dict) and body.get("id") in self._tool_lists else None
            if isinstance(result, dict) and isinstance(result.get("tools"), list):
                self._tool_lists.discard(body["id"])
                good = [t for t in result["tools"] if not isinstance(t, dict) or _fit(self.server, t)]
                if len(good) != len(result["tools"]):
                    return encode({**body, "result": {**result, "tools": good}})
        return data

    async def _take(self, response: Response, request_id: RequestId | None) -> Events | None:
        """Pass on what came.  The stream's state, when it broke before the answer and can be resumed; else None."""
        if response.status == 404 and self._session:
            raise self._lost()
        if not 200 <= response.status < 300:
            answer = await self.explain(response, request_id)
            if answer is not None:
                self.hear(answer)
        elif response.kind == "text/event-stream":
            return await self._follow(response, request_id, Events())
        elif request_id is not None:
            if response.kind != "application/json":
                what = f"{self.server} answered HTTP {response.status} without JSON"
                raise RemoteFailed(what, remedy="is the address right?")
            body = self.hear(await whole(response))
            if not answers(body, request_id):
                raise RemoteFailed(f"{self.server} answered something else than it was asked", remedy="try again")
            self._note_version(body)
        return None

    async def _follow(self, response: Response, request_id: RequestId | None, events: Events) -> Events | None:
        """Pass on a stream's messages until its answer, or its end.  As ``_take``; raises ``RemoteCut``."""
        try:
            async for chunk in response.chunks():
                done = False
                for event in events.feed(chunk):
                    if event.name == "message" and event.data:  # a priming event has none (SEP-1699)
                        body = self.hear(event.data)
                        self._note_version(body)
                        done = done or (request_id is not None and answers(body, request_id))
                if done:
                    return None
        except HTTP_ERRORS as e:
            log.info("%s: a stream broke: %s", self.server, e)
        if request_id is not None and (self._modern or not events.last_id):
            raise self._cut()
        return events if request_id is not None else None

    async def _resume(self, events: Events, request_id: RequestId) -> None:
        """Take up a broken stream after its last event.  Raises ``RemoteCut`` when the server does not go on."""
        tries, broken = 0, events
        while tries < RESUMES:
            await asyncio.sleep(_pause(broken, tries))
            events = broken.again()
            try:
                async with self._get(await self._credentials.headers(), events) as response:
                    if response.status == 404 and self._session:
                        raise self._lost()
                    if response.status != 200 or response.kind != "text/event-stream":
                        raise self._cut()
                    if await self._follow(response, request_id, events) is None:
                        return
            except RemoteUnreachable as e:
                log.info("%s: cannot resume yet: %s", self.server, e.message)
            tries = 0 if events.last_id != broken.last_id else tries + 1
            broken = events
        raise self._cut()

    async def _stand(self) -> None:
        """The standing stream of a handshake session, for as long as the server offers one."""
        tries, events = 0, Events()
        while True:
            heard = events.last_id
            try:
                offered = await self._stand_once(events)
            except (RemoteUnreachable, LoginRequired, ScopeRequired) as e:  # calls may go on without the stream
                log.info("%s: %s", self.server, e.message)
                offered = True
            if not offered:
                return
            tries = 0 if events.last_id != heard else tries + 1
            await asyncio.sleep(_pause(events, tries))
            events = events.again()

    async def _stand_once(self, events: Events) -> bool:
        """Whether to come back for more."""
        sent = await self._credentials.headers()
        async with self._get(sent, events) as response:
            if response.status == 404 and self._session:
                raise self._lost()
            if await self.refused(response, sent):
                return True
            if response.status == 200 and response.kind == "text/event-stream":
                await self._follow(response, None, events)
                return True
            return response.status >= 500 and response.status != 501

    def _get(self, sent: Headers, events: Events) -> AbstractAsyncContextManager[Response]:
        headers = [ACCEPT_EVENTS, *self._session, *self._version, *sent]
        if events.last_id:
            headers.append((b"last-event-id", events.last_id.encode("utf-8")))
        return self._web.request("GET", self.url, headers, read_s=None)

    # -- subscriptions of the modern era

    async def _listen(self, body: dict[str, Any]) -> None:
        """Hold the change stream open; when it breaks, ask again, and say that anything may have changed meanwhile."""
        request_id, line, tries = request_id_of(body), encode(body), 0
        opened = False
        while True:
            try:
                if await self._listen_once(body, line, request_id, again=opened):
                    return
                opened, tries = True, 0
            except HarbourError as e:
                if not opened or isinstance(e, RefusedError):
                    self.fail(request_id, e)
                    return
            await asyncio.sleep(_pause(Events(), tries))
            tries += 1

    async def _listen_once(self, body: dict[str, Any], line: bytes, request_id: Any, *, again: bool) -> bool:
        """Whether the server ended it with an answer."""
        sent = await self._credentials.headers()
        async with self._web.request("POST", self.url, [*self._headers(body), *sent], line, read_s=None) as response:
            if response.status != 200 or response.kind != "text/event-stream":
                if await self.refused(response, sent):
                    return False
                await self._take(response, request_id)
                return True
            if again:
                self._doubt(body["params"].get("notifications") or {})
            try:
                return await self._follow(response, request_id, Events()) is None
            except RemoteCut:
                return False

    def _doubt(self, wanted: dict[str, Any]) -> None:
        for key, method in _CHANGES.items():
            if wanted.get(key) is True:
                self.hear(notification(method))
        for uri in wanted.get("resourceSubscriptions") or ():
            self.hear(notification("notifications/resources/updated", {"uri": uri}))

    # -- the session

    def _name_session(self, response: Response) -> None:
        name = response.header(b"mcp-session-id")
        if len(name) > MAX_SESSION_ID or not all("!" <= c <= "~" for c in name):
            raise RemoteFailed(
                f"{self.server} names its session in a way no header can carry", remedy="tell its author"
            )
        self._session = [(b"mcp-session-id", name.encode())] if name else []

    def _note_version(self, body: Any) -> None:
        """From the handshake's answer on, each request names the revision (2025-06-18, "Protocol Version Header")."""
        if self._version or self._modern or not isinstance(body, dict):
            return
        result = body.get("result")
        version = result.get("protocolVersion") if isinstance(result, dict) else None
        if isinstance(version, str) and len(version) <= 32 and version.isascii() and version.isprintable():
            self._version = [(b"mcp-protocol-version", version.encode())]

    def _lost(self) -> RemoteSessionLost:
        self._session = []
        return RemoteSessionLost(
            f"{self.server} no longer knows our session, and with it whatever it kept there",
            remedy="call again: a new session begins",
        )

    def _cut(self) -> RemoteCut:
        return RemoteCut(
            f"{self.server} ended the stream before it answered; whether the call was carried out is not known",
            remedy="look before you call again",
        )

    async def farewell(self) -> None:
        if self._session:
            headers = [*self._session, *self._version, *await self._credentials.headers()]
            async with self._web.request("DELETE", self.url, headers, read_s=2.0):
                pass


def _fit(server: str, tool: dict[str, Any]) -> bool:
    why = sdk.bad_header_annotation(tool.get("inputSchema"))
    if why is not None:
        log.warning("%s: the tool %.80r is left out: %.200s", server, tool.get("name"), why)
    return why is None


def _pause(events: Events, tries: int) -> float:
    """Seconds until the next attempt: what the server asked for, else longer each time."""
    if events.retry_ms is not None:
        return events.retry_ms / 1000 if tries == 0 else max(events.retry_ms / 1000, FIRST_RETRY_S)
    return float(min(FIRST_RETRY_S * 2**tries, LAST_RETRY_S))
