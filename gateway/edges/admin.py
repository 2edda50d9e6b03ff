"""The operator's own endpoints: ``GET /admin/status`` (JSON) and ``GET /admin/events`` (server-sent events).

Only a token with the scope ``admin`` may read them; the default token has it.  Neither changes anything, and neither
tells arguments, results or tokens.  docs/architecture.md has the shapes.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.edges.guard import Guard, Headers, HttpRefusal
from gateway.edges.streams import RawHeaders, Receive, Send, StandingStream, send_body
from gateway.gateway import Gateway
from gateway.pool_status import status

PREFIX: Final = "/admin/"
MOST_WATCHERS: Final = 16  # consoles and scripts of one operator; each holds a connection
_NO_HEADERS: Final[RawHeaders] = []


class AdminEdge:
    def __init__(self, gateway: Gateway, guard: Guard) -> None:
        self._gateway = gateway
        self._guard = guard

    async def __call__(self, scope: Any, headers: Headers, receive: Receive, send: Send) -> None:
        """Raises ``HttpRefusal``."""
        principal = self._guard.principal(headers)
        if not principal.admin:
            raise HttpRefusal(
                403,
                "admin.scope",
                "this token is no operator's",
                remedy="use the default token (hm token show), or one made with --scope admin",
                principal=principal.name,
            )
        if scope["method"] != "GET":
            raise HttpRefusal(405, "http.method", f"{scope['method']} is not allowed", headers=[(b"allow", b"GET")])
        if scope["path"] == PREFIX + "status":
            await send_body(send, 200, orjson.dumps(status(self._gateway)), [(b"cache-control", b"no-store")])
        elif scope["path"] == PREFIX + "events":
            await self._events(receive, send)
        else:
            raise HttpRefusal(404, "http.not_found", "there is /admin/status and /admin/events")

    async def _events(self, receive: Receive, send: Send) -> None:
        happenings = self._gateway.happenings
        if len(happenings.listeners) >= MOST_WATCHERS:
            raise HttpRefusal(503, "admin.too_many", f"{MOST_WATCHERS} watch already", remedy="close one of them")
        stream = EventStream(send, receive, _NO_HEADERS)
        happenings.listeners.add(stream.happened)
        self._gateway.watchers.add(stream)
        try:
            await stream.run()
        finally:
            happenings.listeners.discard(stream.happened)
            self._gateway.watchers.discard(stream)


class EventStream(StandingStream):
    """One watcher; who does not read is dropped (`LIMITS.backlog_bytes`)."""

    def happened(self, happening: dict[str, Any]) -> None:
        if not self.gone:
            self._put(b"event: %b\r\ndata: %b\r\n\r\n" % (str(happening["event"]).encode(), orjson.dumps(happening)))
