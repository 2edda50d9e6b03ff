"""The life of a call (DESIGN section 6): route, authorize, admit, lease, ask the server, shape, record.

No model, no database and no blocking call between edge and sandbox; a call that finds its sandbox warm awaits exactly
once, for the server's answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from gateway import eras, sdk
from gateway.admission import Admissions
from gateway.authorization.approvals import is_ours
from gateway.authorization.errors import ApprovalDenied
from gateway.calls import ASKED, NOWHERE, Call, Outlet
from gateway.direct import Direct, Passage
from gateway.downstream import Downstream
from gateway.dynamic.tools import OURS
from gateway.errors import (
    BadRequest,
    CallTimeout,
    NoChannel,
    ServerExited,
    TooManySubscriptions,
)
from gateway.gatekeeper import Gatekeeper
from gateway.index import Index, Route
from gateway.interview import interview, wants_input
from gateway.leases import Leases
from gateway.limits import LIMITS
from gateway.lock import LockedServer
from gateway.modern import ModernClient
from gateway.outcomes import call_record, error_code, kind_of_failure, outcome_of
from gateway.pool_repeat import is_repeatable
from gateway.protocol import HEADER_MISMATCH, METHOD_NOT_FOUND
from gateway.record import Recorder
from gateway.replies import Reply, failure
from gateway.routes import SUBSCRIPTIONS, Finder
from gateway.sessions import Session
from gateway.shape import explain, shape, shape_error
from gateway.tasks import may_begin, withhold
from gateway.telemetry.tracer import Tracer
from gateway.upstream import Upstream
from gateway.url_required import questions, visited
from harbourmaster.core.errors import HarbourError, IntegrityError, RefusedError

HeaderMap = dict[str, str]
Own = Callable[[Downstream, Call, Route, dict[str, Any]], Awaitable[dict[str, Any]]]


class Forwarder:
    def __init__(
        self,
        leases: Leases,
        admissions: Admissions,
        recorder: Recorder,
        *,
        gate: Gatekeeper,
        timeout_s: float,
    ) -> None:
        self._leases = leases
        self._admissions = admissions
        self._recorder = recorder
        self.gate = gate
        self.tracer: Tracer | None = None  # set where calls are traced
        self.timeout_s = timeout_s
        self.own: Own | None = None  # answers calls to the gateway's own tools
        self.direct = Direct(self, leases, admissions)

    def expect(self, client: Downstream) -> None:
        """``client`` has just come: what it is likely to call is made ready."""
        now = client.loop.time()
        for server in self._leases.expect(client, client.index.servers, now):
            self._admissions.expect(server, now)

    def may(self, client: Downstream, route: Route) -> bool:
        """Whether ``client`` could call this tool: what it may not, it does not find either."""
        return self.gate.may(client, route)

    def offered(self, client: Downstream) -> Index:
        """What ``client`` is shown: what its profile serves, without what it may never use."""
        return self.gate.offered(client)

    async def forward(
        self,
        client: Downstream,
        body: dict[str, Any],
        find: Finder,
        outlet: Outlet,
        param_headers: HeaderMap | None = None,
        part_of: Call | None = None,
        taken: Passage | None = None,
    ) -> Reply:
        """Answer ``body`` by asking its server; whatever becomes of it is recorded, or the client gets no result.

        ``part_of``: the call of one of our own tools that makes this one.  ``taken``: the server was asked before.
        """
        request_id, method = body["id"], body["method"]
        began = time.perf_counter()
        call = route = None
        outcome, code = "cancelled", ""
        refused: HarbourError | None = None
        try:
            if taken is not None:
                request_id, began, call, route, server = taken.state
                reply = await self._heard(client, call, route, body)
            else:
                self._recorder.check()
                index = client.index
                route = find(index, body.setdefault("params", {}))
                server = index.servers[route.server]
                if route.schema is not None and param_headers is not None:
                    _check_param_headers(route.schema, body["params"], param_headers)
                call = self._enter(client, body, route, outlet)
                call.part_of = part_of
                if self.tracer is not None:
                    call.span = self.tracer.begin(body)
                reply = await self._ask(client, call, server, route, body)
            if call.span is not None:
                call.span.answered = time.time_ns()
            reply["id"] = request_id
            outcome = outcome_of(reply)
            if self.gate.hooked(client):
                reply = await self.gate.after_hooks(client, call, route, reply)
            answer = self.gate.answer(call, server, route, reply), error_code(reply)
        except HarbourError as e:
            outcome, code, refused = kind_of_failure(e), e.code, e
            if outlet is not NOWHERE:
                outlet.refused = e
            answer = failure(request_id, e, modern=client.modern)
        except asyncio.CancelledError:  # a modern client closed its connection
            if call is not None and call.upstream is not None:
                call.upstream.cancel(call, "the client closed the connection")
            raise
        except Exception as e:
            outcome, code = "failed", "internal"
            answer = failure(request_id, e)
        finally:
            lost = self.over(client, call, method, route, outcome, code, refused, began)
        return answer if lost is None else failure(request_id, lost)

    def over(
        self,
        client: Downstream,
        call: Call | None,
        method: str,
        route: Route | None,
        outcome: str,
        code: str,
        refused: HarbourError | None,
        began: float,
    ) -> HarbourError | None:
        """A call's end: what it held is let go, and its record written.  Why it could not be, then the client gets nothing."""
        upstream = None
        if call is not None:
            client.leave(call)
            self.gate.leave(call)
            upstream = call.upstream
            if upstream is not None:
                self._leases.done(upstream, parked=call.parked)
        record = call_record(client, method, route, upstream, outcome, code, time.perf_counter() - began)
        if refused is not None or (call is not None and call.notes):
            record = self._explained(record, call, refused)
        lost = self._recorder.call(record)
        if call is not None and call.span is not None and self.tracer is not None:
            self.tracer.end(call.span, record, client)
        return lost

    # -- for calls that need not wait (gateway/direct.py)

    def undisturbed(self, client: Downstream) -> bool:
        """Whether there is nothing that looks at every call and takes its time."""
        return self.tracer is None and not self._recorder.down and not self.gate.hooked(client)

    def _explained(self, record: dict[str, Any], call: Call | None, refused: HarbourError | None) -> dict[str, Any]:
        """What interceptors found, and which policies refused."""
        if call is not None and call.notes:
            record["notes"] = call.notes
            record["tool"] = self.gate.pipeline.clean(record["tool"])
        if refused is not None and "policies" in refused.details:
            record["policies"] = refused.details["policies"]
        return record

    def _enter(self, client: Downstream, body: dict[str, Any], route: Route, outlet: Outlet) -> Call:
        params = body["params"]
        if isinstance(client, ModernClient) and _is_parked(client, route, params) and not visited(params):
            call = client.resume(body["method"], params)
            call.outlet = outlet
        else:
            call = Call(client.loop, body["method"], outlet, self.timeout_s, client.log_level)
        client.enter(call, body["id"])
        return call

    async def _ask(
        self, client: Downstream, call: Call, server: LockedServer, route: Route, body: dict[str, Any]
    ) -> dict[str, Any]:
        upstream = call.upstream
        if upstream is None:  # not the continuation of a parked call
            decision = self.gate.enter(client, call, server, route, body["params"])
            if self.gate.waits(client, decision, body["params"]):
                asked = await self.gate.settle(client, call, route, body["params"], decision)
                if asked is not None:
                    return {"jsonrpc": "2.0", "result": asked}
                server = client.index.servers[route.server]  # a person took their time, and it may be another by now
            if route.server == OURS and self.own is not None:
                return await self.own(client, call, route, body["params"])
            upstream = self._at_hand(client, server) or await self._opened(client, server, call.method)
            call.upstream = upstream
            if call.method not in upstream.pins.clean:
                await upstream.pins.require(call.method, route.name, client.capabilities)
            if call.turn.done():  # cancelled while the sandbox started
                return await call.turn
            if call.method == "resources/subscribe":
                _check_room(upstream, route)
            if upstream.modern and call.method in SUBSCRIPTIONS:
                return await _subscribed(upstream, call.method, route, self.timeout_s)
            self._send(client, call, upstream, body)
        else:
            self._leases.claim(upstream)
        return await self._heard(client, call, route, body)

    async def _heard(self, client: Downstream, call: Call, route: Route, body: dict[str, Any]) -> dict[str, Any]:
        """The answer of the server that was asked, as the client's era has it."""
        upstream = call.upstream
        assert upstream is not None
        try:
            reply = await call.turn
        except ServerExited:
            if not is_repeatable(upstream.server, call.method, route.name) or not self._leases.repeatable(upstream):
                raise
            upstream, reply = await self._again(client, call, route, body)
        if reply is ASKED and isinstance(client, ModernClient):
            if call.part_of is not None and call.part_of.whole:
                upstream.cancel(call, "nobody can be asked")
                raise NoChannel(
                    f"{route.public} asks a person, which a script cannot wait for", remedy="call it with mcp-exec"
                )
            return {"jsonrpc": "2.0", "result": client.park(call, body["method"], body["params"])}
        if upstream.modern and isinstance(client, Session) and wants_input(reply):
            reply = await interview(client, call, body, reply)
        result = reply.get("result")
        if isinstance(result, dict):
            _note_subscription(call.method, route, upstream)
            if upstream.declares_tasks:
                client.tasks.heard(call, route, body["params"], result, upstream)
            self.shaped(client, call, route, upstream, result)
        elif client.modern and not upstream.modern and isinstance(reply.get("error"), dict):
            asked = questions(reply["error"], client.capabilities)
            if asked is not None:
                return {"jsonrpc": "2.0", "result": asked}
            shape_error(reply["error"])
        return reply

    def shaped(self, client: Downstream, call: Call, route: Route, upstream: Upstream, result: dict[str, Any]) -> None:
        shape(result, call.method, route, upstream.server_info, client=client.modern, server=upstream.modern)
        if result.get("isError") is True:
            explain(result, upstream.limit_in)

    async def _again(
        self, client: Downstream, call: Call, route: Route, body: dict[str, Any]
    ) -> tuple[Upstream, dict[str, Any]]:
        """Make the call once more, in a fresh sandbox: its server ended in the middle of it."""
        if call.upstream is not None:
            self._leases.done(call.upstream)
            call.upstream = None
        self._leases.counters["retries"] += 1
        call.next_turn(client.loop, self.timeout_s)
        upstream = call.upstream = await self._connection(client, client.index.servers[route.server], call.method)
        if call.method not in upstream.pins.clean:
            await upstream.pins.require(call.method, route.name, client.capabilities)
        if not call.turn.done():
            self._send(client, call, upstream, body)
        return upstream, await call.turn

    def _at_hand(self, client: Downstream, server: LockedServer) -> Upstream | None:
        """The client's connection, where it is warm and its verdict fresh: nearly always."""
        now = client.loop.time()
        upstream = self._leases.ready(client, server, now)
        if upstream is None or not self._admissions.fresh(server, now):
            return None
        self._leases.claim(upstream)
        return upstream

    async def _connection(self, client: Downstream, server: LockedServer, method: str) -> Upstream:
        return self._at_hand(client, server) or await self._opened(client, server, method)

    async def _opened(self, client: Downstream, server: LockedServer, method: str) -> Upstream:
        problem = client.index.problems.get(server.name)
        if problem is not None:
            raise problem
        try:
            await self._admissions.check(server)
        except (RefusedError, IntegrityError):
            self._evict(server)
            raise
        return await self._leases.open(client, server, own=method in SUBSCRIPTIONS)

    def _evict(self, server: LockedServer) -> None:
        """What may not run any more does not keep running; a refusal of a profile's relaxations concerns that alone."""
        if not server.relaxed:
            self._leases.end_server(server.name)
            return
        for lease in self._leases:
            if lease.server is server:
                self._leases.end(lease)

    def _send(self, client: Downstream, call: Call, upstream: Upstream, body: dict[str, Any]) -> None:
        params = body["params"]
        if upstream.declares_tasks and call.method == "tools/call" and not may_begin(client, upstream):
            withhold(params)
        if client.modern != upstream.modern:
            if client.modern:
                _strip_envelope(params)
                _follow_level(upstream, call.log_level)
            else:
                body["params"] = upstream.with_envelope(params, client.capabilities, client.log_level)
        if call.span is not None:
            call.span.inject(body["params"])
        upstream.send(call, body)

    async def subscribe(self, client: Downstream, uri: str) -> bool:
        """Subscribe to ``uri`` on behalf of a modern listener; False when its server cannot, will not or may not."""
        began, route, upstream, outcome, code = time.perf_counter(), None, None, "refused", ""
        call, refused = Call(client.loop, "resources/subscribe", NOWHERE, self.timeout_s), None
        try:
            self._recorder.check()
            route = client.index.resource(uri)
            server = client.index.servers[route.server]
            if not (server.listing.get("capabilities", {}).get("resources") or {}).get("subscribe"):
                return False
            if self.gate.enter(client, call, server, route, {"uri": route.name}).approval:
                raise ApprovalDenied(f"{route.public} wants a person's yes, which a stream cannot wait for")
            upstream = await self._connection(client, server, "resources/subscribe")
            await upstream.pins.require("resources/subscribe", route.name, client.capabilities)
            _check_room(upstream, route)
            if upstream.modern:
                reply = await _subscribed(upstream, "resources/subscribe", route, self.timeout_s)
            else:
                reply = await upstream.request("resources/subscribe", {"uri": route.name}, self.timeout_s)
            outcome = outcome_of(reply)
        except HarbourError as e:
            outcome, code, refused = kind_of_failure(e), e.code, e
        finally:
            self.gate.leave(call)
            if upstream is not None:
                self._leases.done(upstream)
        record = call_record(client, call.method, route, upstream, outcome, code, time.perf_counter() - began)
        lost = self._recorder.call(self._explained(record, call, refused))
        if outcome != "ok" or lost is not None or route is None or upstream is None:
            return False
        upstream.subscriptions.add(route.name)
        return True

    def unsubscribe(self, client: Downstream, uri: str) -> None:
        try:
            route = client.index.resource(uri)
        except HarbourError:
            return
        lease = client.leases.get(route.server)
        if lease is not None and lease.ready and route.name in lease.upstream.subscriptions:
            lease.upstream.subscriptions.discard(route.name)
            if lease.upstream.modern:
                lease.upstream.unwatch(route.name)
            else:
                lease.upstream.post("resources/unsubscribe", {"uri": route.name})


def _is_parked(client: ModernClient, route: Route, params: dict[str, Any]) -> bool:
    """Whether ``params`` continue a call that waits for them; a modern server keeps its own state."""
    state = params.get("requestState", params)
    return state is not params and not is_ours(state) and not _modern(client.index, route)


def _modern(index: Index, route: Route) -> bool:
    return eras.is_modern(index.servers[route.server].listing["protocolVersion"])


def _strip_envelope(params: dict[str, Any]) -> None:
    meta = eras.without_envelope(params.get("_meta", {}))
    if meta:
        params["_meta"] = meta
    else:
        params.pop("_meta", None)


def _follow_level(upstream: Upstream, level: str | None) -> None:
    """A handshake server logs for the whole session: have it send at least what this call asked for."""
    if level is not None and (
        upstream.log_level is None or eras.LOG_LEVELS.index(level) < eras.LOG_LEVELS.index(upstream.log_level)
    ):
        upstream.set_level(level)


def _check_param_headers(schema: dict[str, Any], params: dict[str, Any], headers: HeaderMap) -> None:
    mismatch = sdk.param_header_mismatch(schema, params.get("arguments") or {}, headers)
    if mismatch is not None:
        raise BadRequest(mismatch, rpc=HEADER_MISMATCH)


async def _subscribed(upstream: Upstream, method: str, route: Route, timeout: float) -> dict[str, Any]:
    """The reply to ``resources/subscribe`` or ``unsubscribe`` at a modern server, which knows neither.  ``CallTimeout``."""
    reply: dict[str, Any] = {"jsonrpc": "2.0", "result": {}}
    if method == "resources/unsubscribe":
        upstream.unwatch(route.name)
    else:
        try:
            agreed = await asyncio.wait_for(asyncio.shield(upstream.watch_resource(route.name)), timeout)
        except TimeoutError:
            upstream.unwatch(route.name)
            raise CallTimeout(
                f"{upstream.server.name} did not answer {method} within {timeout:g} s", remedy="try again"
            ) from None
        if not agreed:
            upstream.unwatch(route.name)
            message = f"{upstream.server.name} does not tell of changes to {route.public}"
            return {"jsonrpc": "2.0", "error": {"code": METHOD_NOT_FOUND, "message": message}}
    _note_subscription(method, route, upstream)
    return reply


def _check_room(upstream: Upstream, route: Route) -> None:
    """Subscriptions are kept while their sandbox lives.  Raises ``TooManySubscriptions``."""
    if len(upstream.subscriptions) >= LIMITS.subscriptions or len(route.name) > LIMITS.uri_bytes:
        raise TooManySubscriptions(
            f"a client may subscribe to {LIMITS.subscriptions} resources of a server, of {LIMITS.uri_bytes} characters each",
            remedy="unsubscribe from some",
        )


def _note_subscription(method: str, route: Route, upstream: Upstream) -> None:
    """A sandbox with a subscription is in use, even while no call is in flight."""
    if method == "resources/subscribe":
        upstream.subscriptions.add(route.name)
    elif method == "resources/unsubscribe":
        upstream.subscriptions.discard(route.name)
