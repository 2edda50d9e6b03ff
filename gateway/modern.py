"""Modern clients (2026-07-28): no session; each request says who asks.  What outlives a request is keyed by the caller.

A handshake server's own request becomes an input-required result (multi-round-trip): the call is parked, the client
answers by repeating its request with the state it was given, and the parked call goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any, Final

from gateway import eras
from gateway.calls import ASKED, NOWHERE, Call, Question
from gateway.downstream import Downstream
from gateway.eras import Envelope
from gateway.errors import CallCancelled, StateLost
from gateway.interceptors.outgoing import notice
from gateway.limits import LIMITS
from gateway.listen import Listener
from gateway.messages import RequestId, encode
from gateway.principals import Principal
from gateway.profiles.view import View
from gateway.protocol import INTERNAL_ERROR, METHOD_NOT_FOUND
from gateway.sessions import SERVER_REQUESTS
from gateway.upstream import Upstream
from harbourmaster.core.digests import sha256

GATHER_S: Final = 0.05  # a server that asks several things at once has said them all when it was quiet for this long
GATHER_FAR_S: Final = 0.2  # and one elsewhere, whose messages take ways of different lengths; a person takes longer
# Parts of the parameters that may differ between a call and its continuation.
_PER_ROUND: Final = frozenset({"_meta", "inputResponses", "requestState"})


@dataclass(slots=True)
class Parked:
    """A call whose server waits for the client's answer."""

    call: Call
    fingerprint: str
    until: float


class ModernClient(Downstream):
    """All requests of one principal and client; on stdio, of one connection (``by_connection``)."""

    modern = True

    def __init__(
        self, principal: Principal, key: str, loop: asyncio.AbstractEventLoop, view: View, *, by_connection: bool
    ) -> None:
        super().__init__(principal, key, loop, view)
        self.version = eras.LATEST_HANDSHAKE_VERSION  # what its handshake servers are told
        self.listeners: set[Listener] = set()
        self._parked: dict[str, Parked] = {}
        self._by_connection = by_connection
        self._entered = 0
        self._questions = 0

    def adopt(self, envelope: Envelope) -> None:
        """What this request says about the client; the request itself must follow before anything else runs."""
        self.capabilities = envelope.capabilities
        self.log_level = envelope.log_level
        if isinstance(envelope.client_info, dict):
            self.client_info = envelope.client_info

    def enter(self, call: Call, request_id: RequestId) -> None:
        """Over HTTP, ids of different connections may coincide; a key of our own keeps them apart."""
        self._entered += 1
        super().enter(call, request_id if self._by_connection else self._entered)

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self.calls or self.listeners or self._parked)

    @property
    def in_use(self) -> bool:
        recently = self.loop.time() - self.used < LIMITS.session_idle_s
        return bool(self.leases or self.calls or self.listeners or self._parked or (self.own is not None and recently))

    def announce(self, method: str) -> None:
        """A notification from the gateway itself."""
        for listener in tuple(self.listeners):
            listener.offer({"jsonrpc": "2.0", "method": method})

    def ping(self) -> None:
        for call in self.calls.values():
            call.outlet.ping()
        for listener in self.listeners:
            listener.ping()

    def hang_up(self) -> None:
        """End all streams deliberately."""
        for listener in tuple(self.listeners):
            listener.close()

    # -- from servers

    def server_notified(self, upstream: Upstream, body: dict[str, Any]) -> None:
        if body["method"] == "notifications/message":
            self._logged(upstream, body)
            return
        self.with_public_uri(upstream, body)
        for listener in tuple(self.listeners):
            listener.offer(body)

    def _logged(self, upstream: Upstream, body: dict[str, Any]) -> None:
        """Log messages go to calls that asked for them, at the level they asked for."""
        level = body.get("params", {}).get("level")
        if level not in eras.LOG_LEVELS:
            return
        for call in reversed(upstream.pending.values()):
            wanted = call.log_level
            if wanted is not None and eras.LOG_LEVELS.index(level) >= eras.LOG_LEVELS.index(wanted):
                call.outlet.push(notice(body))
                return

    def server_asked(self, upstream: Upstream, body: dict[str, Any]) -> None:
        method, server_id = body["method"], body["id"]
        capability = SERVER_REQUESTS.get(method)
        if capability is None or capability not in self.capabilities:
            upstream.refuse(server_id, METHOD_NOT_FOUND, f"this client does not support {method}")
            return
        call = _carrier(upstream)
        if call is None:
            upstream.refuse(server_id, INTERNAL_ERROR, "no call is in flight that could carry the question")
            return
        size = len(encode(body)) + sum(each.size for each in call.questions.values())
        if len(call.questions) >= LIMITS.questions or size > LIMITS.question_bytes:
            upstream.refuse(server_id, INTERNAL_ERROR, "too many questions wait for this client's answers")
            return
        self._questions += 1
        key = f"{upstream.server.name}-{self._questions}"
        call.questions[key] = Question(server_id, method, body.get("params", {}), len(encode(body)))
        quiet = GATHER_FAR_S if upstream.server.remote else GATHER_S
        self.loop.call_later(quiet, _present, call, key)

    def server_withdrew(self, upstream: Upstream, params: dict[str, Any]) -> None:
        for call in upstream.pending.values():
            for key, question in tuple(call.questions.items()):
                if question.server_id == params.get("requestId"):
                    del call.questions[key]

    # -- multi-round-trip

    def park(self, call: Call, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The input-required result for ``call``, which waits from now on."""
        while len(self._parked) >= LIMITS.calls_per_client:
            oldest = self._parked.pop(next(iter(self._parked)))
            self.cancel(oldest.call, "too many calls wait", CallCancelled("too many calls of this client wait"))
        state = secrets.token_urlsafe(32)
        call.next_turn(self.loop, LIMITS.park_s)
        call.outlet = NOWHERE
        call.parked = True
        self._parked[state] = Parked(call, fingerprint(method, params), call.deadline)
        asked = {key: {"method": q.method, "params": q.params} for key, q in call.questions.items()}
        return {"resultType": "input_required", "inputRequests": asked, "requestState": state}

    def resume(self, method: str, params: dict[str, Any]) -> Call:
        """The parked call that ``params`` continues, its questions answered.  Raises ``StateLost``, and what ``screen``
        says against the answers: then it stays parked, to be answered otherwise."""
        state = params.get("requestState")
        refused = self.screen(params.get("inputResponses"))
        if refused is not None:
            raise refused
        parked = self._parked.pop(state, None) if isinstance(state, str) else None
        if parked is None or parked.fingerprint != fingerprint(method, params):
            raise StateLost(
                "the call this continues is unknown: it ended, waited too long, or the gateway was restarted",
                remedy="make the call again from the start",
            )
        call, responses = parked.call, params.get("inputResponses")
        call.parked = False
        for key, question in tuple(call.questions.items()):
            if isinstance(responses, dict) and key in responses and call.upstream is not None:
                call.upstream.answer(question.server_id, {"result": responses[key]})
                del call.questions[key]
        if call.questions and not call.turn.done():
            call.turn.set_result(ASKED)  # what is still open is asked again
        return call

    def sweep(self, now: float) -> None:
        for state, parked in tuple(self._parked.items()):
            if parked.until <= now:
                del self._parked[state]


def _present(call: Call, key: str) -> None:
    """Show the client what the server asked, unless it has asked more since ``key``: then that one's turn comes."""
    later = key in call.questions and next(reversed(call.questions)) != key
    if call.questions and not later and not call.turn.done():
        call.turn.set_result(ASKED)


def fingerprint(method: str, params: dict[str, Any]) -> str:
    """What must be the same when a call is continued: all parameters but the round's own."""
    lasting = {k: params[k] for k in sorted(params) if k not in _PER_ROUND}
    return sha256(encode([method, lasting]))


def _carrier(upstream: Upstream) -> Call | None:
    """The newest call that can carry a question; the same client answers, whichever it is."""
    able = [c for c in upstream.pending.values() if c.method in eras.NAME_PARAMETER]
    return next((c for c in reversed(able) if c.outlet is not NOWHERE), able[-1] if able else None)
