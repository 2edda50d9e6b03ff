"""A person's yes to one call.  Whoever cannot be asked, does not answer in time or is not sure, has said no.

The caller's own user is asked by elicitation where the policy lets them decide and the client can ask; else the call is
held until ``hm approve yes|no ID``.  Held calls are files in HM_HOME/run/approvals (0700): one says what waits, another,
made by the command line, what a person said.  A gateway that ended takes its held calls with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.authorization.errors import ApprovalDenied, ApprovalTimeout
from gateway.authorization.held_calls import answers, forget, hold
from gateway.calls import Call
from gateway.downstream import Downstream
from gateway.index import Route
from gateway.messages import notification
from gateway.modern import ModernClient, fingerprint
from gateway.sessions import Session
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.redaction import IN_USE
from policies.authorization import Decision

STATE: Final = "approval."  # how a request state begins that is ours and not a parked call's
QUESTION: Final = "approval"  # the key of our one input request
LOOK_S: Final = 0.25  # how often the folder is looked at while a call is held
MAX_SHOWN: Final = 4000  # characters of the arguments that a person is shown
MAX_CLIENT: Final = 200  # characters of what a client calls itself
MAX_ASKED: Final = 256  # questions that one caller leaves open; one more takes the place of the oldest
YES: Final = {
    "type": "object",
    "properties": {"approve": {"type": "boolean", "title": "Allow this one call", "default": False}},
    "required": ["approve"],
}

Record = Callable[[dict[str, Any]], HarbourError | None]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a question was about: a yes to it is a yes to nothing else, and not one that another has to say."""

    principal: str
    about: tuple[str, str, str]  # profile, server, tool
    fingerprint: str
    until: float


class Approvals:
    """``folder``: where held calls lie.  ``record``: the audit's."""

    def __init__(self, folder: Path, record: Record, deadline_s: float) -> None:
        self._folder = folder
        self._record = record
        self._deadline_s = deadline_s
        self._asked: dict[str, _Asked] = {}

    async def obtain(
        self, client: Downstream, call: Call, route: Route, params: dict[str, Any], decision: Decision, print_: str
    ) -> dict[str, Any] | None:
        """None where a person said yes; a result that asks them, for a modern client.  Raises ``ApprovalDenied``,
        ``ApprovalTimeout``.  ``print_``: the fingerprint of the request as it came."""
        asked = self._resumed(client, route, params, print_)
        if asked is not None and decision.approver != "operator":
            self._judge(client, route, decision, "client", _agreed(asked))
        elif decision.approver == "client" and _can_ask(client, call):
            if isinstance(client, ModernClient):
                return self._ask_modern(client, route, params, decision, print_)
            await self._ask_session(client, call, route, params, decision)
        else:
            await self._hold(client, call, route, params, decision)
        call.touch(client.loop.time())
        return None

    # -- the caller's own user

    def _ask_modern(
        self, client: ModernClient, route: Route, params: dict[str, Any], decision: Decision, print_: str
    ) -> dict[str, Any]:
        now = time.monotonic()
        self._asked = {state: asked for state, asked in self._asked.items() if asked.until > now}
        own = [state for state, asked in self._asked.items() if asked.principal == client.principal.key]
        if len(own) >= MAX_ASKED:
            del self._asked[own[0]]
        state = STATE + secrets.token_urlsafe(32)
        self._asked[state] = _Asked(client.principal.key, _about(client, route), print_, now + self._deadline_s)
        question = {"method": "elicitation/create", "params": _question(route, params, decision)}
        return {"resultType": "input_required", "inputRequests": {QUESTION: question}, "requestState": state}

    def _resumed(self, client: Downstream, route: Route, params: dict[str, Any], print_: str) -> Any:
        """The answer to our question, if ``params`` bring one; what is ours is taken out of them."""
        state = params.get("requestState")
        if not isinstance(state, str) or not is_ours(state):
            return None
        del params["requestState"]
        responses = params.pop("inputResponses", None)
        asked = self._asked.pop(state, None)
        if asked is None or asked.until <= time.monotonic():
            raise ApprovalTimeout("the question that this answers is no longer open", remedy="make the call again")
        wanted = (client.principal.key, _about(client, route), print_)
        if (asked.principal, asked.about, asked.fingerprint) != wanted:
            raise ApprovalDenied("the answer is to another call than this", remedy="make the call again")
        return responses.get(QUESTION, {}) if isinstance(responses, dict) else {}

    async def _ask_session(
        self, client: Downstream, call: Call, route: Route, params: dict[str, Any], decision: Decision
    ) -> None:
        assert isinstance(client, Session)
        try:
            async with asyncio.timeout(self._deadline_s):
                reply = await client.ask(call, "elicitation/create", _question(route, params, decision))
        except TimeoutError:
            raise self._late(client, route, decision) from None
        self._judge(client, route, decision, "client", _agreed(reply.get("result")))

    # -- the operator

    async def _hold(
        self, client: Downstream, call: Call, route: Route, params: dict[str, Any], decision: Decision
    ) -> None:
        held = secrets.token_hex(4)
        until = time.time() + self._deadline_s
        facts = _facts(client, route, params, decision, until)
        writing = asyncio.ensure_future(asyncio.to_thread(hold, self._folder, held, facts))
        outer, waits = call.part_of or call, False
        outer.held |= {held}
        try:
            await asyncio.shield(writing)
            self._note(client, route, decision, "held", held)
            waits = True
            _tell(call, params, held)
            await self._decided(client, call, route, decision, held, until)
        except (ApprovalDenied, ApprovalTimeout):
            raise
        except BaseException:
            with contextlib.suppress(HarbourError):  # the audit is down, and calls stop for that
                if waits:
                    self._note(client, route, decision, "withdrawn", held)
            raise
        finally:
            outer.held -= {held}
            await asyncio.wait({writing})  # else it would lie there after it is forgotten
            forget(self._folder, held)

    async def _decided(
        self, client: Downstream, call: Call, route: Route, decision: Decision, held: str, until: float
    ) -> None:
        yes, no = answers(self._folder, held)
        while time.time() < until:
            if call.turn.done():  # the client gave up
                await call.turn
            if no.exists():
                self._judge(client, route, decision, "operator", False, held)
            if yes.exists():
                self._judge(client, route, decision, "operator", True, held)
                return
            await asyncio.sleep(LOOK_S)
        raise self._late(client, route, decision, held)

    # -- what was said

    def _judge(self, client: Downstream, route: Route, decision: Decision, by: str, yes: bool, held: str = "") -> None:
        self._note(client, route, decision, "approved" if yes else "denied", held, by=by)
        if not yes:
            raise ApprovalDenied(
                f"a person said no to {route.public} of {route.server}",
                remedy="ask them why, before you ask again",
                policies=[reason.policy for reason in decision.approval],
            )

    def _late(self, client: Downstream, route: Route, decision: Decision, held: str = "") -> ApprovalTimeout:
        self._note(client, route, decision, "expired", held)
        return ApprovalTimeout(
            f"nobody approved {route.public} of {route.server} within {self._deadline_s:g} s",
            remedy="make the call again, and have it approved: hm approve ls",
            policies=[reason.policy for reason in decision.approval],
        )

    def _note(self, client: Downstream, route: Route, decision: Decision, event: str, held: str, **more: str) -> None:
        record = {
            "kind": "approval",
            "event": event,
            "server": route.server,
            "tool": route.name,
            "principal": client.principal.name,
            "session": client.label,
            "policies": [reason.policy for reason in decision.approval],
            **more,
        }
        lost = self._record({**record, "id": held} if held else record)
        if lost is not None:
            raise lost


def is_ours(state: Any) -> bool:
    return isinstance(state, str) and state.startswith(STATE)


def print_of(call: Call, params: dict[str, Any]) -> str:
    return fingerprint(call.method, params)


def _can_ask(client: Downstream, call: Call) -> bool:
    """Whether the client shows its user a form (2025-11-25, client/elicitation: an empty capability means forms).

    A modern client is asked by a result; a script has to go on before there is one.
    """
    if isinstance(client, ModernClient) and call.part_of is not None and call.part_of.whole:
        return False
    able = client.capabilities.get("elicitation")
    return isinstance(able, dict) and (not able or "form" in able)


def _agreed(answer: Any) -> bool:
    if not isinstance(answer, dict) or answer.get("action") != "accept":
        return False
    content = answer.get("content")
    return isinstance(content, dict) and content.get("approve") is True


def _question(route: Route, params: dict[str, Any], decision: Decision) -> dict[str, Any]:
    why = "; ".join(reason.reason for reason in decision.approval)
    message = f"Allow {route.public} of {route.server}, once?  {why}\n\n{_shown(params)}"
    return {"mode": "form", "message": message, "requestedSchema": YES}


def _facts(
    client: Downstream, route: Route, params: dict[str, Any], decision: Decision, until: float
) -> dict[str, Any]:
    return {
        "principal": client.principal.name,
        "client": str(client.client_info.get("name"))[:MAX_CLIENT],
        "server": route.server,
        "tool": route.name,
        "arguments": _shown(params),
        "because": [{"policy": reason.policy, "reason": reason.reason} for reason in decision.approval],
        "since": time.time(),
        "until": until,
    }


def _shown(params: dict[str, Any]) -> str:
    given = params.get("arguments", {key: params[key] for key in ("uri", "name") if key in params})
    text = IN_USE.redact(json.dumps(given, ensure_ascii=True, indent=1))
    if len(text) <= MAX_SHOWN:
        return text
    missing = len(text) - MAX_SHOWN  # said first: whoever made the arguments chose what comes last
    return f"!! {missing} MORE CHARACTERS ARE NOT SHOWN: say no unless none of them can matter\n{text[:MAX_SHOWN]}"


def _about(client: Downstream, route: Route) -> tuple[str, str, str]:
    return client.view.name, route.server, route.name


def _tell(call: Call, params: dict[str, Any], held: str) -> None:
    """Whoever shows progress can show what the call waits for; and the stream is kept open."""
    call.outlet.watch()
    meta = params.get("_meta")
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    if token is None and call.part_of is not None:
        token = call.part_of.progress_token
    if isinstance(token, str | int):
        message = f"waits for a person: hm approve yes {held}"
        call.outlet.push(
            notification("notifications/progress", {"progressToken": token, "progress": 0, "message": message})
        )
