"""Handshake sessions: a client of 2024-11-05 .. 2025-11-25, from ``initialize`` to its end."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway import eras
from gateway.calls import NOWHERE, Call, Outlet
from gateway.downstream import Downstream
from gateway.errors import CallCancelled, NoChannel, TooManySessions, wire_error
from gateway.interceptors.outgoing import notice, question
from gateway.limits import LIMITS
from gateway.messages import RequestId, notification
from gateway.principals import Principal
from gateway.profiles.view import View
from gateway.protocol import INTERNAL_ERROR, METHOD_NOT_FOUND
from gateway.replay import Replay
from gateway.tasks import STATUS_CHANGED
from gateway.upstream import Upstream

# What a server may ask of a client, and the capability that allows it (2025-11-25, client/*).
SERVER_REQUESTS = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "roots",
}
# Of the tasks that a client makes of such requests (2025-11-25, utilities/tasks); a list would show other servers' tasks
TASK_REQUESTS = frozenset({"tasks/get", "tasks/result", "tasks/cancel"})

MAX_TASK: Final = 1024  # characters of a task's id
SHARE: Final = LIMITS.sessions * 7 // 8  # of all sessions, for one principal at most


@dataclass(slots=True)
class Asked:
    """A request sent to the client that it has not answered."""

    reply: Callable[[dict[str, Any]], None]
    upstream: Upstream | None = None
    server_id: RequestId | None = None
    progress_token: RequestId | None = None


class Session(Downstream):
    """One client connection.  ``stream`` is its standing channel (the GET stream, or stdout), when open."""

    remembers = True

    def __init__(self, principal: Principal, session_id: str, loop: asyncio.AbstractEventLoop, view: View) -> None:
        super().__init__(principal, session_id, loop, view)
        self.id = session_id
        self.stream: Outlet = NOWHERE
        self.replay = Replay(loop.time)
        self._asked: dict[int, Asked] = {}
        self._next_ask = 1
        self._backlog: deque[bytes] = deque(maxlen=LIMITS.backlog_notices)

    def begin(self, params: dict[str, Any]) -> str:
        """Take in ``initialize``; the negotiated revision."""
        self.version = eras.negotiate(params.get("protocolVersion"))
        if isinstance(params.get("clientInfo"), dict):
            self.client_info = params["clientInfo"]
        if isinstance(params.get("capabilities"), dict):
            self.capabilities = params["capabilities"]
        return self.version

    # -- towards the client

    def attach(self, stream: Outlet) -> None:
        """``stream`` becomes the standing channel and gets what waited for one."""
        self.stream = stream
        while self._backlog and stream.push(self._backlog[0]):
            self._backlog.popleft()

    def detach(self, stream: Outlet) -> None:
        if self.stream is stream:
            self.stream = NOWHERE

    def announce(self, method: str) -> None:
        """A notification from the gateway itself."""
        self._push(notification(method), None)

    def ping(self) -> None:
        self.stream.ping()
        self.replay.prune()
        for call in self.calls.values():
            call.outlet.ping()

    def hang_up(self) -> None:
        """End the standing stream; calls in flight end with their sandboxes."""
        self.stream.close()
        self.stream = NOWHERE

    def server_notified(self, upstream: Upstream, body: dict[str, Any]) -> None:
        self.with_public_uri(upstream, body)
        self._push(notice(body), upstream)

    def _push(self, message: bytes, upstream: Upstream | None) -> None:
        if not any(outlet.push(message) for outlet in self._outlets(upstream)):
            self._backlog.append(message)
            while sum(map(len, self._backlog)) > LIMITS.backlog_notice_bytes:  # a server chooses how large they are
                self._backlog.popleft()

    def _outlets(self, upstream: Upstream | None) -> Iterator[Outlet]:
        """Where a message fits, best first: beside the only call it can be about, else session-wide, else any call."""
        calls = [c.outlet for c in upstream.pending.values() if c.outlet is not NOWHERE] if upstream else []
        if len(calls) == 1 and calls[0].reachable:
            yield calls[0]
        yield self.stream
        calls = [*(c.outlet for c in self.calls.values()), *calls]
        yield from (outlet for outlet in reversed(calls) if outlet.reachable)
        yield from (outlet for outlet in reversed(calls) if not outlet.reachable)  # heard if the client comes back

    # -- the server asks the client

    def server_asked(self, upstream: Upstream, body: dict[str, Any]) -> None:
        method, server_id = body["method"], body["id"]
        capability = "tasks" if self._is_of_task(upstream, body) else SERVER_REQUESTS.get(method)
        if capability is None or capability not in self.capabilities:
            upstream.refuse(server_id, METHOD_NOT_FOUND, f"this client does not support {method}")
            return
        asked = Asked(lambda reply: self._told(upstream, server_id, reply), upstream, server_id)
        meta = body.get("params", {}).get("_meta")
        if isinstance(meta, dict) and "progressToken" in meta:
            asked.progress_token = meta["progressToken"]
            meta["progressToken"] = self._next_ask
        if not self._ask(asked, body, upstream):
            upstream.refuse(server_id, INTERNAL_ERROR, "the client has no open stream to be asked on")

    def _is_of_task(self, upstream: Upstream, body: dict[str, Any]) -> bool:
        """Whether a server asks about a task that this client made for it, and not for another."""
        named = (body.get("params") or {}).get("taskId")
        return body["method"] in TASK_REQUESTS and isinstance(named, str) and named in upstream.asked_tasks

    def _told(self, upstream: Upstream, server_id: RequestId, reply: dict[str, Any]) -> None:
        result = reply.get("result")
        task = result.get("task") if isinstance(result, dict) else None
        named = task.get("taskId") if isinstance(task, dict) else None
        room = len(upstream.asked_tasks) < LIMITS.tasks_per_client
        if isinstance(named, str) and len(named) <= MAX_TASK and room:
            upstream.asked_tasks.add(named)
        upstream.answer(server_id, reply)

    async def ask(self, call: Call, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Ask the client on behalf of a modern server's input request; the response body.  Raises ``NoChannel``."""
        answered: asyncio.Future[dict[str, Any]] = self.loop.create_future()

        def settle(reply: dict[str, Any]) -> None:
            if not answered.done():
                answered.set_result(reply)

        body = {"jsonrpc": "2.0", "id": 0, "method": method, "params": params}
        if SERVER_REQUESTS.get(method, "?") not in self.capabilities or not self._ask(
            Asked(settle), body, call.upstream
        ):
            raise NoChannel(
                f"the server needs {method} from the client, which cannot take it",
                remedy="use a client that supports it",
            )
        return await answered

    def _ask(self, asked: Asked, body: dict[str, Any], upstream: Upstream | None) -> bool:
        ours = self._next_ask
        self._next_ask = ours + 1
        body["id"] = ours
        message = question(body)
        if len(self._asked) >= LIMITS.questions_per_session:
            return False
        if not any(outlet.push(message) for outlet in self._outlets(upstream)):
            return False
        self._asked[ours] = asked
        return True

    def server_withdrew(self, upstream: Upstream, params: dict[str, Any]) -> None:
        for ours, asked in self._asked.items():
            if asked.upstream is upstream and asked.server_id == params.get("requestId"):
                del self._asked[ours]
                self._push(notification("notifications/cancelled", {**params, "requestId": ours}), upstream)
                return

    # -- from the client

    def answered(self, body: dict[str, Any]) -> None:
        """A response of the client's; unknown and late ones are dropped."""
        ours = body["id"]
        asked = self._asked.pop(ours, None) if type(ours) is int else None
        if asked is not None:
            reply: dict[str, Any] = {k: body[k] for k in ("result", "error") if k in body}
            refused = self.screen(reply)
            if refused is not None:
                reply = {"error": wire_error(refused)}
                for call in asked.upstream.pending.values() if asked.upstream is not None else ():
                    call.note(*refused.details.get("notes", ()))
            asked.reply(reply)

    def notified(self, body: dict[str, Any]) -> None:
        """A notification of the client's."""
        method, params = body["method"], body.get("params", {})
        if method == "notifications/cancelled":
            self._cancelled(params)
        elif method == "notifications/progress":
            self._progressed(params)
        elif method == STATUS_CHANGED:
            for lease in self.leases.values():
                if str(params.get("taskId")) in lease.upstream.asked_tasks:
                    lease.upstream.notify(method, params)
        elif method == "notifications/roots/list_changed":
            for lease in self.leases.values():
                if lease.ready and not lease.upstream.modern:  # that era dropped it, and asks anew each time
                    lease.upstream.notify(method, body.get("params"))

    def _cancelled(self, params: dict[str, Any]) -> None:
        request_id = params.get("requestId")
        call = self.calls.get(request_id) if isinstance(request_id, (str, int)) else None
        if call is not None:
            reason = params.get("reason")
            self.cancel(call, reason if isinstance(reason, str) else "cancelled", CallCancelled("Request cancelled"))

    def _progressed(self, params: dict[str, Any]) -> None:
        ours = params.get("progressToken")
        asked = self._asked.get(ours) if type(ours) is int else None
        if asked is not None and asked.upstream is not None and asked.progress_token is not None:
            asked.upstream.notify("notifications/progress", {**params, "progressToken": asked.progress_token})


class Sessions:
    """The handshake sessions of an HTTP edge, by id; bound to the principal that made each."""

    def __init__(self) -> None:
        self._by_id: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._by_id.values()))

    def get(self, session_id: str, principal: Principal) -> Session | None:
        """The session, if it exists and is this principal's; the two failures look the same."""
        session = self._by_id.get(session_id)
        if session is None or session.principal.key != principal.key:
            return None
        session.principal = principal
        return session

    def create(self, principal: Principal, loop: asyncio.AbstractEventLoop, view: View) -> Session:
        session = Session(principal, secrets.token_urlsafe(32), loop, view)
        self._by_id[session.id] = session
        return session

    def to_evict(self, principal: Principal) -> Session | None:
        """When no more sessions fit, or this principal has its share: of whoever has most, the one longest unused.
        Raises ``TooManySessions`` when all are in use.

        Many clients leave without saying so; and one that opens thousands must not take the others' away.
        """
        if len(self._by_id) < SHARE:
            return None
        of = Counter(s.principal.key for s in self._by_id.values())
        mine = of[principal.key] >= SHARE
        if len(self._by_id) < LIMITS.sessions and not mine:
            return None
        own = [s for s in self._by_id.values() if not mine or s.principal.key == principal.key]
        idle = [s for s in own if s.stream is NOWHERE and not s.calls]
        if not idle:
            raise TooManySessions(f"{len(own)} sessions are in use", remedy="end some, or wait")
        return min(idle, key=lambda s: (-of[s.principal.key], s.used))

    def remove(self, session: Session) -> None:
        self._by_id.pop(session.id, None)

    def stale(self, now: float) -> list[Session]:
        """Sessions whose client has gone silent: no request, no stream, no call for a long time."""
        limit = now - LIMITS.session_idle_s
        return [s for s in self._by_id.values() if s.used < limit and s.stream is NOWHERE and not s.calls]
