"""What became of a call, as its audit record says it.  Pure."""

from __future__ import annotations

from typing import Any

from gateway.downstream import Downstream
from gateway.errors import CallCancelled
from gateway.index import Route
from gateway.upstream import Upstream
from harbourmaster.core.errors import EngineError, HarbourError, UnavailableError
from sandbox.errors import LimitReached


def outcome_of(reply: dict[str, Any]) -> str:
    result = reply.get("result")
    if not isinstance(result, dict):
        return "rpc_error"
    if result.get("isError") is True:
        return "tool_error"
    return "input_required" if result.get("resultType") == "input_required" else "ok"


def error_code(reply: dict[str, Any]) -> int:
    error = reply.get("error")
    code = error.get("code") if isinstance(error, dict) else 0
    return code if isinstance(code, int) else 0


def kind_of_failure(error: HarbourError) -> str:
    if isinstance(error, CallCancelled):
        return "cancelled"
    return "failed" if isinstance(error, UnavailableError | EngineError | LimitReached) else "refused"


def call_record(
    client: Downstream,
    method: str,
    route: Route | None,
    upstream: Upstream | None,
    outcome: str,
    code: str,
    seconds: float,
) -> dict[str, Any]:
    record = {
        "kind": "call",
        "server": route.server if route is not None else "",
        "tool": route.name if route is not None else "",
        "method": method,
        "principal": client.principal.name,
        "session": client.label,
        "profile": client.view.name,
        "outcome": outcome,
        "duration_ms": round(seconds * 1000, 3),
        "sandbox": upstream.sandbox_id if upstream is not None else "",
    }
    if code:
        record["code"] = code
    return record
