"""What a server is told about its client before there is one, and who stands in for that client until it comes.

A handshake server may rely on what ``initialize`` said for as long as the connection lives, so a sandbox that was greeted
ahead of demand is only ever given to a client that says exactly the same: revision, capabilities, name.  Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.calls import NOWHERE
from gateway.messages import encode
from gateway.protocol import METHOD_NOT_FOUND

if TYPE_CHECKING:
    from gateway.upstream import Peer, Upstream

KEPT_NOTICES: Final = 64  # of what a server says before it has a client; as many as a session keeps without a stream
KEPT_QUESTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Promise:
    """``key`` is the same for two promises that say the same."""

    version: str
    capabilities: dict[str, Any]
    client_info: dict[str, Any]
    key: str

    @classmethod
    def make(cls, version: str, capabilities: dict[str, Any], client_info: dict[str, Any]) -> Promise:
        said = json.dumps([version, capabilities, client_info], sort_keys=True)
        key = hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()
        return cls(version, capabilities, client_info, key)

    @classmethod
    def of(cls, peer: Peer) -> Promise:
        return cls.make(peer.version, peer.capabilities, peer.client_info)


class Nobody:
    """The client of a spare sandbox: keeps what the server says for the client to come, and answers nothing for it."""

    def __init__(self, promise: Promise) -> None:
        self.version = promise.version
        self.capabilities = promise.capabilities
        self.client_info = promise.client_info
        self.log_level: str | None = None
        self.asked = False
        self._said: deque[dict[str, Any]] = deque(maxlen=KEPT_NOTICES)
        self._questions: list[dict[str, Any]] = []

    def server_notified(self, upstream: Upstream, body: dict[str, Any]) -> None:
        self._said.append(body)

    def server_asked(self, upstream: Upstream, body: dict[str, Any]) -> None:
        self.asked = True
        if len(self._questions) < KEPT_QUESTIONS:
            self._questions.append(body)
        else:
            upstream.refuse(body["id"], METHOD_NOT_FOUND, "too many questions before the first call")

    def server_withdrew(self, upstream: Upstream, params: dict[str, Any]) -> None:
        self._questions = [q for q in self._questions if q["id"] != params.get("requestId")]

    def hand_over(self, upstream: Upstream, peer: Peer) -> None:
        """``peer`` is the client from now on, and hears what it missed."""
        upstream.adopt(peer)
        for body in self._said:
            peer.server_notified(upstream, body)
        for body in self._questions:
            peer.server_asked(upstream, body)
        self._said.clear()
        self._questions.clear()


class Everybody:
    """The client of a sandbox that several share: it can do nothing, because no one of them could be asked for all.

    What the server says about a call goes to that call; what it says to a session goes to the only call there is, if
    there is exactly one, and to nobody else.
    """

    def __init__(self, version: str, client_info: dict[str, Any]) -> None:
        self.version = version
        self.capabilities: dict[str, Any] = {}
        self.client_info = client_info
        self.log_level: str | None = None

    def server_notified(self, upstream: Upstream, body: dict[str, Any]) -> None:
        calls = [call for call in upstream.pending.values() if call.outlet is not NOWHERE]
        if body["method"] == "notifications/message" and len(calls) == 1:
            calls[0].outlet.push(encode(body))

    def server_asked(self, upstream: Upstream, body: dict[str, Any]) -> None:
        upstream.refuse(body["id"], METHOD_NOT_FOUND, "a shared server cannot ask its clients")

    def server_withdrew(self, upstream: Upstream, params: dict[str, Any]) -> None:
        """It asked nothing that was passed on."""
