"""One sandbox in use, and who holds it.  The words are `gateway.leases`'."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.calls import Call
from gateway.lock import LockedServer
from gateway.messages import RequestId
from gateway.pool_promise import Everybody
from gateway.upstream import Peer, Upstream
from harbourmaster.core.errors import HarbourError

OWN: Final = "session"
CALL: Final = "call"
SHARED: Final = "shared"


class Lease:
    """``task`` starts it; ``held``: whether it has a place; ``claims``: calls that have it now; ``uses``: that ever had it."""

    __slots__ = ("claims", "held", "holder", "kind", "ready", "server", "task", "upstream", "used", "uses", "weighed")

    def __init__(self, holder: Holder, server: LockedServer, upstream: Upstream, now: float, kind: str = OWN) -> None:
        self.holder = holder
        self.server = server
        self.upstream = upstream
        self.used = now
        self.kind = kind
        self.claims = 0
        self.uses = 0
        self.ready = False
        self.held = False
        self.weighed = now
        self.task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        if not self.ready or self.claims > 0:  # asked thousands of times where many wait for a place
            return True
        upstream = self.upstream
        return bool(upstream.pending or upstream.subscriptions or (upstream.tasks and upstream.has_tasks))

    @property
    def kept(self) -> bool:
        """Whether its client counts on what the server remembers."""
        return self.kind == OWN and self.holder.remembers and not is_stateless(self.server)


if TYPE_CHECKING:
    _Peer = Peer
else:
    _Peer = object  # isinstance of a Protocol's heirs is slow, and on the path of every call


class Holder(_Peer):
    """Who holds leases: a handshake session, or a modern client.  ``remembers``: it was promised a session.

    ``lost``: by server, what its next call must be told about a sandbox that is gone.
    """

    leases: dict[str, Lease]
    lost: dict[str, HarbourError]
    calls: dict[RequestId, Call]
    remembers: bool
    label: str
    left = False  # it is gone, and gets no sandbox any more


class Shared(Everybody, Holder):
    """Holds the sandboxes of one stateless server, for clients of one revision."""

    remembers = False
    label = ""

    def __init__(self, version: str, client_info: dict[str, Any]) -> None:
        super().__init__(version, client_info)
        self.leases = {}
        self.lost = {}
        self.calls = {}
        self.sandboxes: list[Lease] = []


def fingerprint(server: LockedServer) -> str:
    """The same for two lines that start the same sandbox: profiles may hold several lines of one server."""
    said = [server.image, server.image_id, server.profile, server.pin, server.run, server.granted]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def same_line(server: LockedServer, lock: Mapping[str, LockedServer]) -> bool:
    """Whether the lock still says of ``server`` what it said; a profile's own values aside."""
    now = lock.get(server.name)
    return now is not None and all(
        getattr(now, part) == getattr(server, part) for part in ("image", "image_id", "profile", "pin")
    )


def is_stateless(server: LockedServer) -> bool:
    return server.run.get("stateless") is True


def per_call(server: LockedServer) -> bool:
    return server.run.get("ephemeral") == CALL
