"""Requests of both eras: what is answered here, and what goes on to a server.  Pure but for what it forwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway import eras
from gateway.calls import Outlet
from gateway.errors import BadRequest
from gateway.forward import Forwarder, HeaderMap
from gateway.listen import Listener
from gateway.messages import result_message, result_of_json
from gateway.modern import ModernClient
from gateway.protocol import INVALID_PARAMS, METHOD_NOT_FOUND
from gateway.replies import Reply, failure
from gateway.routes import ROUTED, SUBSCRIPTIONS
from gateway.sessions import Session
from harbourmaster.core.errors import HarbourError

Local = Callable[[Session, dict[str, Any]], dict[str, Any]]


class Router:
    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._local: Mapping[str, Local] = {
            "ping": lambda session, params: {},
            "initialize": self._initialize,
            "logging/setLevel": self._set_level,
        }

    def at_once(self, session: Session, body: dict[str, Any], outlet: Outlet, then: Callable[[Reply], None]) -> bool:
        """``handshake`` for a call that need not wait: whether it is taken, so that ``then`` is told the answer."""
        if not self._forwarder.direct.begin(session, body, outlet, then):
            return False
        session.used = session.loop.time()
        return True

    def handshake(self, session: Session, body: dict[str, Any], outlet: Outlet) -> Awaitable[Reply]:
        """Answer a request of a handshake session, once awaited."""
        method = body["method"]
        session.used = session.loop.time()
        find = ROUTED.get(method) or SUBSCRIPTIONS.get(method) or session.tasks.finder(session, method)
        if find is not None:
            return self._forwarder.forward(session, body, find, outlet)
        return self._here(session, method, body)

    async def _here(self, session: Session, method: str, body: dict[str, Any]) -> Reply:
        """What needs no server."""
        try:
            if method in session.index.handshake_lists:
                return _listed(self._forwarder.offered(session).handshake_lists, body)
            local = self._local.get(method)
            if local is None:
                raise BadRequest("Method not found", rpc=METHOD_NOT_FOUND, data=method)
            return result_message(body["id"], local(session, body.get("params", {}))), 0
        except HarbourError as e:
            return failure(body["id"], e)

    async def modern(
        self, client: ModernClient, body: dict[str, Any], outlet: Outlet, headers: HeaderMap | None = None
    ) -> Reply:
        """Answer a modern request whose envelope has been read; ``headers`` are HTTP's."""
        method = body["method"]
        find = ROUTED.get(method) or client.tasks.finder(client, method)
        if find is not None:
            return await self._forwarder.forward(client, body, find, outlet, headers)
        try:
            if method in client.index.modern_lists:
                return _listed(self._forwarder.offered(client).modern_lists, body)
            if method == "server/discover":
                return result_of_json(body["id"], self._forwarder.offered(client).discover), 0
            if method == "subscriptions/listen":
                return await self._listen(client, body, outlet)
            raise BadRequest("Method not found", rpc=METHOD_NOT_FOUND, data=method)
        except HarbourError as e:
            return failure(body["id"], e)

    def _initialize(self, session: Session, params: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(params.get("protocolVersion"), str):
            raise BadRequest("Invalid params: protocolVersion must be a string", rpc=INVALID_PARAMS)
        eras.check_introduction(params.get("clientInfo"), params.get("capabilities"))
        version = session.begin(params)
        self._forwarder.expect(session)
        return self._forwarder.offered(session).initialize_result(version)

    def _set_level(self, session: Session, params: dict[str, Any]) -> dict[str, Any]:
        level = params.get("level")
        if level not in eras.LOG_LEVELS:
            raise BadRequest(f"Invalid params: level must be one of {', '.join(eras.LOG_LEVELS)}", rpc=INVALID_PARAMS)
        session.log_level = level
        for lease in session.leases.values():
            if lease.ready:
                lease.upstream.set_level(level)
        return {}

    async def _listen(self, client: ModernClient, body: dict[str, Any], outlet: Outlet) -> Reply:
        """Serve one stream until the client leaves or we shut down."""
        listener = Listener(body["id"], body.get("params", {}), outlet, client.loop)
        client.listeners.add(listener)
        outlet.watch()
        try:
            listener.acknowledge(await self._subscribe(client, listener.uris))
            await listener.ended
        finally:
            client.listeners.discard(listener)
            self._unsubscribe(client, listener.uris)
        return result_message(body["id"], listener.result(client.index.server_info)), 0

    async def _subscribe(self, client: ModernClient, uris: tuple[str, ...]) -> tuple[str, ...]:
        """Subscribe at the servers that own ``uris``; those that agreed."""
        agreed = []
        for uri in uris:
            if await self._forwarder.subscribe(client, uri):
                agreed.append(uri)
        return tuple(agreed)

    def _unsubscribe(self, client: ModernClient, uris: tuple[str, ...]) -> None:
        """Drop subscriptions that no other stream of the client needs."""
        still = {uri for listener in client.listeners for uri in listener.uris}
        for uri in uris:
            if uri not in still:
                self._forwarder.unsubscribe(client, uri)


def _listed(lists: Mapping[str, bytes], body: dict[str, Any]) -> Reply:
    if body.get("params", {}).get("cursor") is not None:  # lists have one page, so no cursor is ours
        raise BadRequest("Invalid params: unknown cursor", rpc=INVALID_PARAMS)
    return result_of_json(body["id"], lists[body["method"]]), 0
