"""The change streams held open at one modern server: it tells of nothing that it was not asked for.

Each is a ``subscriptions/listen`` request of the gateway's own, which ends when the server answers it (2026-07-28,
"Subscriptions").  What comes on them goes to the client as if the server had said it unasked, which is how servers of the
handshake era do it.  Pure but for the futures.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from gateway.listen import LIST_CHANGES, SUBSCRIPTION_ID_META_KEY

ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
LISTS: Final = ""  # the key of the stream for the lists; the others are keyed by their resource's URI

_CAPABILITIES: Final = {key: method.split("/")[1] for method, key in LIST_CHANGES.items()}


@dataclass(frozen=True, slots=True)
class Watch:
    request_id: int
    agreed: asyncio.Future[bool]  # whether the server will tell


class Watches:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: dict[str, Watch] = {}

    def get(self, key: str) -> Watch | None:
        return self._open.get(key)

    def add(self, key: str, request_id: int) -> Watch:
        watch = self._open[key] = Watch(request_id, self._loop.create_future())
        return watch

    def remove(self, key: str) -> int | None:
        """Forget the stream; the request to cancel."""
        watch = self._open.pop(key, None)
        if watch is None:
            return None
        _settle(watch, False)
        return watch.request_id

    def acknowledged(self, params: dict[str, Any]) -> None:
        """The first frame of a stream says what the server will tell."""
        honoured = params.get("notifications")
        uris = honoured.get("resourceSubscriptions") if isinstance(honoured, dict) else None
        for key, watch in self._open.items():
            if watch.request_id == _subscription_id(params):
                _settle(watch, key == LISTS or (isinstance(uris, list) and key in uris))

    def ended(self, request_id: int) -> None:
        """The server refused the stream, or closed it."""
        for key, watch in tuple(self._open.items()):
            if watch.request_id == request_id:
                self.remove(key)

    def close(self) -> None:
        for key in tuple(self._open):
            self.remove(key)


def _settle(watch: Watch, agreed: bool) -> None:
    if not watch.agreed.done():
        watch.agreed.set_result(agreed)


def lists_of(capabilities: dict[str, Any]) -> dict[str, Any]:
    """The filter for the lists that a server says it can tell about; empty when there is none."""
    offered = {key: capabilities.get(name) for key, name in _CAPABILITIES.items()}
    return {key: True for key, said in offered.items() if isinstance(said, dict) and said.get("listChanged") is True}


def unstamp(params: dict[str, Any]) -> None:
    """Take out which of *our* requests a notification belongs to: the client knows none of them."""
    meta = params.get("_meta")
    if isinstance(meta, dict) and meta.pop(SUBSCRIPTION_ID_META_KEY, None) is not None and not meta:
        del params["_meta"]


def _subscription_id(params: dict[str, Any]) -> Any:
    meta = params.get("_meta")
    return meta.get(SUBSCRIPTION_ID_META_KEY) if isinstance(meta, dict) else None
