"""What both kinds of client have in common: a principal, leases, calls in flight."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

from gateway.calls import Call
from gateway.dynamic.additions import Additions
from gateway.errors import BadRequest, TooManyCalls
from gateway.index import Index
from gateway.limits import LIMITS
from gateway.messages import RequestId
from gateway.pool_lease import Holder, Lease
from gateway.principals import Principal
from gateway.profiles.view import View
from gateway.tasks import Tasks
from gateway.upstream import Upstream
from harbourmaster.core.errors import HarbourError, RefusedError

Screen = Callable[[Any], RefusedError | None]


def unscreened(answer: Any) -> RefusedError | None:
    """For clients that nobody's servers can ask."""
    return None


class Downstream(Holder):
    """A client; the owner of its leases."""

    modern = False
    trusted = False  # the gateway itself, asking an interceptor in its sandbox: not intercepted again
    remembers = False

    def __init__(self, principal: Principal, key: str, loop: asyncio.AbstractEventLoop, view: View) -> None:
        self.principal = principal  # as of its last request: rights may change while it is connected
        self.view = view
        self.screen: Screen = unscreened  # why an answer of its to a server's question is not sent
        self.own: Additions | None = None  # what it added itself, in a dynamic profile
        self.rights: Any = None  # gateway.authorization.authorizer.Rights, once it has asked for something
        self.label = hashlib.sha256(key.encode()).hexdigest()[:16]  # a session id is a secret; the audit gets this
        self.loop = loop
        self.leases: dict[str, Lease] = {}
        self.lost: dict[str, HarbourError] = {}
        self.calls: dict[RequestId, Call] = {}
        self.tasks = Tasks()
        self.version = ""
        self.client_info: dict[str, Any] = {"name": "unknown", "version": "0"}
        self.capabilities: dict[str, Any] = {}
        self.log_level: str | None = None
        self.used = loop.time()

    @property
    def index(self) -> Index:
        """What this client may name."""
        own = self.own
        return self.view.index if own is None else own.index

    def enter(self, call: Call, request_id: RequestId) -> None:
        """Register a call; raises ``BadRequest`` for an id in use, ``TooManyCalls``."""
        if request_id in self.calls:
            raise BadRequest(f"Invalid Request: id {request_id!r} is already in flight")
        if len(self.calls) >= LIMITS.calls_per_client:
            raise TooManyCalls(
                f"{LIMITS.calls_per_client} calls of this client are in flight", remedy="wait for one to end"
            )
        call.key = request_id
        self.calls[request_id] = call

    def leave(self, call: Call) -> None:
        if self.calls.get(call.key) is call:
            del self.calls[call.key]

    def cancel(self, call: Call, reason: str, error: HarbourError) -> None:
        """The client gave up on ``call``: tell the server, release whoever waits for it."""
        if call.upstream is not None:
            call.upstream.cancel(call, reason)
        call.fail(error)

    def with_public_uri(self, upstream: Upstream, body: dict[str, Any]) -> None:
        """Name a changed resource as this client knows it."""
        if body["method"] == "notifications/resources/updated":
            params = body.get("params", {})
            if isinstance(params.get("uri"), str):
                params["uri"] = self.index.public_uri(upstream.server.name, params["uri"])

    def server_notified(self, upstream: Upstream, body: dict[str, Any]) -> None:
        raise TypeError("a client kind must say where notifications go")

    def announce(self, method: str) -> None:
        raise TypeError("a client kind must say how it is told")

    def server_asked(self, upstream: Upstream, body: dict[str, Any]) -> None:
        raise TypeError("a client kind must say where requests go")

    def server_withdrew(self, upstream: Upstream, params: dict[str, Any]) -> None:
        """The server no longer wants an answer to its request."""
