"""``subscriptions/listen`` (2026-07-28): one request whose response is a stream of change notifications."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from gateway import eras
from gateway.calls import Outlet
from gateway.errors import BadRequest
from gateway.interceptors.outgoing import notice
from gateway.messages import RequestId, notification
from gateway.protocol import INVALID_PARAMS

MAX_URIS: Final = 256  # of one stream: each is asked of its server, and on record
SUBSCRIPTION_ID_META_KEY: Final = "io.modelcontextprotocol/subscriptionId"  # 2026-07-28, "Subscriptions"

LIST_CHANGES: Final = {
    "notifications/tools/list_changed": "toolsListChanged",
    "notifications/prompts/list_changed": "promptsListChanged",
    "notifications/resources/list_changed": "resourcesListChanged",
}


class Listener:
    """One open stream: which notifications it honours, each stamped with the id of the request."""

    def __init__(self, request_id: RequestId, params: dict[str, Any], outlet: Outlet, loop: asyncio.AbstractEventLoop):
        wanted = params.get("notifications")
        if not isinstance(wanted, dict):
            raise BadRequest("notifications must be an object", rpc=INVALID_PARAMS)
        uris = wanted.get("resourceSubscriptions") or []
        if not isinstance(uris, list) or not all(isinstance(u, str) for u in uris):
            raise BadRequest("resourceSubscriptions must be a list of URIs", rpc=INVALID_PARAMS)
        if len(uris) > MAX_URIS:
            raise BadRequest(f"resourceSubscriptions may name {MAX_URIS} resources", rpc=INVALID_PARAMS)
        self.uris: tuple[str, ...] = tuple(dict.fromkeys(uris))
        self.honoured: dict[str, Any] = {k: True for k in LIST_CHANGES.values() if wanted.get(k) is True}
        self.ended: asyncio.Future[None] = loop.create_future()
        self.request_id = request_id
        self._meta = {SUBSCRIPTION_ID_META_KEY: request_id}
        self._outlet = outlet

    def acknowledge(self, uris: tuple[str, ...]) -> None:
        """The first frame; ``uris`` are those whose servers will tell."""
        self.uris = uris
        if uris:
            self.honoured["resourceSubscriptions"] = list(uris)
        body = {"_meta": self._meta, "notifications": self.honoured}
        self._outlet.push(notification("notifications/subscriptions/acknowledged", body))

    def offer(self, body: dict[str, Any]) -> None:
        """Pass on ``body`` if it was asked for."""
        method, params = body["method"], body.get("params", {})
        if LIST_CHANGES.get(method) in self.honoured or (
            method == "notifications/resources/updated" and params.get("uri") in self.uris
        ):
            stamped = {**params, "_meta": {**params.get("_meta", {}), **self._meta}}
            self._outlet.push(notice({**body, "params": stamped}))

    def close(self) -> None:
        """End the stream deliberately; the client learns it from the final result."""
        if not self.ended.done():
            self.ended.set_result(None)

    def ping(self) -> None:
        self._outlet.ping()

    def result(self, server_info: dict[str, Any]) -> dict[str, Any]:
        return {"resultType": "complete", "_meta": {**self._meta, eras.SERVER_INFO_META_KEY: server_info}}
