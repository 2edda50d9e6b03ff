"""A person's yes to what a server may touch: asked for where the client can ask, else in two calls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway.calls import Call
from gateway.downstream import Downstream
from gateway.dynamic import consent
from gateway.dynamic.errors import AddRefused, ConsentDenied, ConsentMoved, ConsentNeeded
from gateway.errors import CallTimeout, NoChannel
from gateway.limits import LIMITS
from gateway.lock import LockedServer
from gateway.sessions import Session


async def ask_person(
    client: Downstream, call: Call, server: LockedServer, accept: Any, params: Mapping[str, Any], *, shown: bool
) -> dict[str, Any] | None:
    """None: agreed.  A result: a modern client is asked by it.  ``shown``: only what a person was shown counts.

    Raises ``AddRefused``, ``ConsentNeeded`` (what to send), ``ConsentDenied``, ``ConsentMoved``, ``CallTimeout``.
    """
    digest = consent.digest(server)
    if shown and not _asks(client):
        raise AddRefused(
            f"{server.name} may only be added by a client that asks a person", remedy="use a client with elicitation"
        )
    if not _asks(client):
        _by_second_call(server, accept, digest)
        return None
    if isinstance(client, Session):
        try:
            answer = await _elicited(client, call, server)
        except NoChannel:  # it can show forms, and has no stream on which to be asked
            if shown:
                raise
            _by_second_call(server, accept, digest)
        else:
            _settle(server, answer)
        return None
    answers = params.get("inputResponses")
    if not isinstance(answers, dict) or consent.QUESTION not in answers:
        asked = {"method": consent.ELICIT, "params": consent.question(server)}
        return {
            "resultType": "input_required",
            "inputRequests": {consent.QUESTION: asked},
            "requestState": consent.state_of(server),
        }
    if params.get("requestState") != consent.state_of(server):
        raise ConsentMoved(f"{server.name} is not what was asked about", remedy="call mcp-add again")
    _settle(server, answers[consent.QUESTION])
    return None


def _asks(client: Downstream) -> bool:
    """Whether the client can show a person a form (2025-11-25 client/elicitation: an empty capability means form)."""
    capability = client.capabilities.get("elicitation")
    return isinstance(capability, dict) and (not capability or "form" in capability)


def _by_second_call(server: LockedServer, accept: Any, digest: str) -> None:
    if accept == digest:
        return
    if isinstance(accept, str) and accept:
        raise ConsentMoved(
            f"what {server.name} may touch is not what was agreed to",
            remedy=f"show this to the person, then call mcp-add again with accept: {digest}",
            touches=consent.touches(server),
            accept=digest,
        )
    raise ConsentNeeded(
        f"before {server.name} is added, a person should know what it may touch:\n{consent.words(server)}",
        remedy=f"show this to the person; when they agree, call mcp-add again with accept: {digest}",
        touches=consent.touches(server),
        accept=digest,
    )


async def _elicited(session: Session, call: Call, server: LockedServer) -> Any:
    try:
        async with asyncio.timeout(LIMITS.park_s):
            reply = await session.ask(call, consent.ELICIT, consent.question(server))
    except TimeoutError:
        raise CallTimeout("nobody answered in time", remedy="call mcp-add again") from None
    return reply.get("result")


def _settle(server: LockedServer, answer: Any) -> None:
    if not consent.agreed(answer):
        raise ConsentDenied(f"the person did not allow {server.name}", remedy="do without it, or ask them again")
