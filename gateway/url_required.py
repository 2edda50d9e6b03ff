"""A handshake server that wants the person to visit an address first, and its modern client.  Pure.

2025-11-25 (client/elicitation, "URL Elicitation Required Error") has the server answer a call with error -32042 and the
addresses; the client shows them, and calls again.  2026-07-28 retired the error: there it is an input-required result,
which leads to the same call made again.  Nothing is kept meanwhile, so this state survives a restart.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.errors import InputDeclined
from gateway.protocol import URL_ELICITATION_REQUIRED

ELICIT: Final = "elicitation/create"
STATE: Final = "visited"
MAX_ADDRESSES: Final = 20  # at once; a person looks at each


def questions(error: dict[str, Any], capabilities: dict[str, Any]) -> dict[str, Any] | None:
    """The input-required result for ``error``; None where it is another, or where the client can show no addresses."""
    data = error.get("data")
    asked = data.get("elicitations") if isinstance(data, dict) else None
    shows = capabilities.get("elicitation")
    if error.get("code") != URL_ELICITATION_REQUIRED or not isinstance(shows, dict) or "url" not in shows:
        return None
    if not isinstance(asked, list) or not 0 < len(asked) <= MAX_ADDRESSES or not all(_is_address(a) for a in asked):
        return None
    requests = {f"address-{n}": {"method": ELICIT, "params": {**a, "mode": "url"}} for n, a in enumerate(asked, 1)}
    return {"resultType": "input_required", "inputRequests": requests, "requestState": STATE}


def visited(params: dict[str, Any]) -> bool:
    """Whether ``params`` make such a call again; they are a first call's from then on.  Raises ``InputDeclined``."""
    if params.get("requestState") != STATE:
        return False
    del params["requestState"]
    answers = params.pop("inputResponses", None)
    for each in answers.values() if isinstance(answers, dict) else ():
        if not isinstance(each, dict) or each.get("action") != "accept":
            raise InputDeclined(
                "the server wants an address visited before this call, and the person did not",
                remedy="call again to be asked again",
            )
    return True


def _is_address(asked: Any) -> bool:
    return isinstance(asked, dict) and isinstance(asked.get("url"), str) and asked.get("mode", "url") == "url"
