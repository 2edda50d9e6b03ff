"""A modern server wants input from a handshake client: ask it the old way, then repeat the call with the answers."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.calls import Call
from gateway.errors import CallTimeout, StateLost
from gateway.limits import LIMITS
from gateway.sessions import Session

MAX_ROUNDS = 10  # the MCP SDKs' own bound
PAUSE_S = 0.1  # before a round in which the server asked nothing


def wants_input(reply: dict[str, Any]) -> bool:
    result = reply.get("result")
    return isinstance(result, dict) and result.get("resultType") == "input_required"


async def interview(session: Session, call: Call, body: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
    """Rounds of questions until ``reply`` is final; the final reply.  Raises ``NoChannel``, ``CallTimeout``."""
    try:
        async with asyncio.timeout(LIMITS.park_s):
            for _ in range(MAX_ROUNDS):
                answers, refused = await _answers(session, call, reply["result"].get("inputRequests") or {})
                if refused is not None:
                    return refused
                reply = await _again(call, body, reply["result"].get("requestState"), answers)
                if not wants_input(reply):
                    return reply
    except TimeoutError:
        raise CallTimeout("the client did not answer the server's questions in time", remedy="call again") from None
    raise StateLost(f"the server still asks after {MAX_ROUNDS} rounds", remedy="report it to the server's author")


async def _answers(
    session: Session, call: Call, questions: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    if not questions:
        await asyncio.sleep(PAUSE_S)
    answers: dict[str, Any] = {}
    for key, question in questions.items():
        reply = await session.ask(call, question.get("method", ""), question.get("params") or {})
        if "result" not in reply:
            return {}, {"jsonrpc": "2.0", "id": 0, "error": reply.get("error")}
        answers[key] = reply["result"]
    return answers, None


async def _again(call: Call, body: dict[str, Any], state: Any, answers: dict[str, Any]) -> dict[str, Any]:
    params = {**body["params"], "inputResponses": answers}
    if state is not None:
        params["requestState"] = state
    assert call.upstream is not None
    call.next_turn(call.upstream.loop, call.timeout)
    call.upstream.send(call, {**body, "params": params})
    return await call.turn
