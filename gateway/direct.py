"""The usual call without waiting for anything: no task, no future and no coroutine between the client's bytes and the server's,
and none on the way back.

``Direct.begin`` takes a call only where nothing on its way can make it wait: a handshake client's ``tools/call`` of a warm server
of its era, as locked, admitted, let through by policies without a person, with no custom interceptor and no traces.  Any other
is left to ``Forwarder.forward`` as if it had never been looked at; and so is one that was taken and whose answer is not plain
(its server ended, it was cancelled, it took too long).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gateway.admission import Admissions
from gateway.authorization.approvals import is_ours
from gateway.calls import ASKED, Call, Outlet
from gateway.index import Route
from gateway.leases import Leases
from gateway.lock import LockedServer
from gateway.messages import RequestId
from gateway.outcomes import error_code, kind_of_failure, outcome_of
from gateway.replies import Reply, failure
from gateway.routes import ROUTED
from gateway.sessions import Session
from gateway.upstream import Upstream
from harbourmaster.core.errors import HarbourError

if TYPE_CHECKING:
    from gateway.forward import Forwarder

log = logging.getLogger("gateway.direct")

METHOD: Final = "tools/call"


class Passage:
    """One call that was taken, until its answer.  It stands where ``Call.turn`` is a future otherwise."""

    __slots__ = (
        "_over",
        "began",
        "body",
        "call",
        "client",
        "direct",
        "outlet",
        "request_id",
        "route",
        "server",
        "then",
    )

    def __init__(
        self, direct: Direct, client: Session, body: dict[str, Any], route: Route, server: LockedServer, outlet: Outlet
    ) -> None:
        self.direct = direct
        self.client = client
        self.body = body
        self.route = route
        self.server = server
        self.outlet = outlet
        self.request_id: RequestId = body["id"]
        self.began = time.perf_counter()
        self.call: Call
        self.then: Callable[[Reply], None]
        self._over = False

    @property
    def state(self) -> tuple[RequestId, float, Call, Route, LockedServer]:
        return self.request_id, self.began, self.call, self.route, self.server

    def done(self) -> bool:
        return self._over

    def set_result(self, reply: dict[str, Any]) -> None:
        self._over = True
        self.direct.heard(self, reply)

    def set_exception(self, error: BaseException) -> None:
        self._over = True
        self.direct.hand_over(self, error=error)

    def exception(self) -> None:
        """As a future's: nothing is left to be retrieved."""


class _Over:
    """A turn that has ended."""

    def done(self) -> bool:
        return True


OVER: Final[Any] = _Over()


class Direct:
    def __init__(self, forwarder: Forwarder, leases: Leases, admissions: Admissions) -> None:
        self._forwarder, self._leases, self._admissions = forwarder, leases, admissions
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, client: Session, body: dict[str, Any], outlet: Outlet, then: Callable[[Reply], None]) -> bool:
        """Take the request and tell ``then`` its answer, perhaps before this returns; or leave it as it is (False)."""
        forwarder = self._forwarder
        found = self._usual(client, body)
        if found is None:
            return False
        route, server, upstream = found
        passage = Passage(self, client, body, route, server, outlet)
        passage.then = then
        call = passage.call = Call(client.loop, METHOD, outlet, forwarder.timeout_s, client.log_level, passage)
        body["params"]["name"] = route.name
        try:
            client.enter(call, body["id"])
            forwarder.gate.look(client, call, server, route, body["params"])
            self._leases.use(upstream, call.started)
            self._leases.claim(upstream)
            call.upstream = upstream
            upstream.send(call, body)
        except Exception as e:
            self._failed(passage, e)
        return True

    def _usual(self, client: Session, body: dict[str, Any]) -> tuple[Route, LockedServer, Upstream] | None:
        """Where it goes, if nothing can make it wait.  Changes nothing."""
        forwarder, params = self._forwarder, body.get("params")
        if body["method"] != METHOD or type(params) is not dict or not forwarder.undisturbed(client):
            return None
        name, index = params.get("name"), client.index
        route = index.tools.get(name) if type(name) is str else None
        if (
            route is None
            or type(params.get("arguments")) is not dict
            or "task" in params
            or is_ours(params.get("requestState"))
        ):
            return None
        server = index.servers.get(route.server)
        upstream = self._leases.live(client, server) if server is not None else None
        if (
            server is None
            or upstream is None
            or upstream.modern
            or upstream.declares_tasks
            or METHOD not in upstream.pins.clean
        ):
            return None
        try:
            decision = forwarder.gate.authorizer.check(client, METHOD, route, params)
        except HarbourError:
            return None  # and why is said where it is refused
        if decision.approval or not self._admissions.fresh(server, client.loop.time()):
            return None
        return route, server, upstream

    def heard(self, passage: Passage, reply: dict[str, Any]) -> None:
        """The server's answer."""
        if reply is ASKED or not isinstance(reply.get("result"), dict):
            self.hand_over(passage, reply)
            return
        call, forwarder = passage.call, self._forwarder
        upstream = call.upstream
        assert upstream is not None
        try:
            forwarder.shaped(passage.client, call, passage.route, upstream, reply["result"])
            reply["id"] = passage.request_id
            answer = forwarder.gate.answer(call, passage.server, passage.route, reply), error_code(reply)
        except Exception as e:
            self._failed(passage, e)
            return
        self._end(passage, outcome_of(reply), "", None, answer)

    def _failed(self, passage: Passage, error: Exception) -> None:
        refused = error if isinstance(error, HarbourError) else None
        if refused is not None:
            passage.outlet.refused = refused
        else:
            log.error("a call failed within the gateway", exc_info=error)
        outcome, code = (kind_of_failure(refused), refused.code) if refused is not None else ("failed", "internal")
        self._end(passage, outcome, code, refused, failure(passage.request_id, error))

    def _end(self, passage: Passage, outcome: str, code: str, refused: HarbourError | None, answer: Reply) -> None:
        forwarder = self._forwarder
        passage.call.turn = OVER  # it would keep the passage, which keeps it
        lost = forwarder.over(
            passage.client, passage.call, METHOD, passage.route, outcome, code, refused, passage.began
        )
        passage.then(answer if lost is None else failure(passage.request_id, lost))

    # -- what turned out not to be usual

    def hand_over(
        self, passage: Passage, reply: dict[str, Any] | None = None, error: BaseException | None = None
    ) -> None:
        call, loop = passage.call, passage.client.loop
        call.turn = loop.create_future()
        if error is not None:
            call.fail(error)
        else:
            call.turn.set_result(reply or {})
        task = loop.create_task(self._the_long_way(passage))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _the_long_way(self, passage: Passage) -> None:
        forward = self._forwarder.forward
        passage.then(await forward(passage.client, passage.body, ROUTED[METHOD], passage.outlet, taken=passage))
