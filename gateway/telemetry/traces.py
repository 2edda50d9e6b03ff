"""Spans of calls: the client's trace goes on through the gateway to the server.

W3C Trace Context in ``_meta`` (MCP, basic/index "_meta": ``traceparent``, ``tracestate``, ``baggage``); over HTTP the
header stands in where ``_meta`` says nothing.  A call is a SERVER span, what its server does for it a CLIENT span below,
and the server is told the latter's id.  Names and attributes follow OpenTelemetry's semantic conventions for MCP.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from gateway.telemetry.config import TelemetryConfig

TRACEPARENT: Final = "traceparent"
# W3C Trace Context section 3.2: version 00; later versions may carry more behind a dash.
_PARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
SERVER: Final = 2  # opentelemetry.proto.trace.v1.Span.SpanKind
CLIENT: Final = 3
ERROR: Final = 2  # Status.StatusCode

_random = random.SystemRandom()


class Span:
    """One call.  ``sent`` and ``answered``: when its server had it, in ns since the epoch; 0: never."""

    __slots__ = ("answered", "arguments", "began", "child", "id", "parent", "request_id", "sent", "state", "trace")

    def __init__(self, trace: str, parent: str, state: str) -> None:
        self.trace, self.parent, self.state = trace, parent, state
        self.id, self.child = _id(8), _id(8)
        self.began = time.time_ns()
        self.sent = self.answered = 0
        self.request_id: str = ""
        self.arguments = ""

    def inject(self, params: dict[str, Any]) -> None:
        """Tell the server whose work it does."""
        meta = params.get("_meta")
        meta = params["_meta"] = dict(meta) if isinstance(meta, dict) else {}
        meta[TRACEPARENT] = f"00-{self.trace}-{self.child}-01"
        self.sent = time.time_ns()


def begin(params: Mapping[str, Any], config: TelemetryConfig) -> Span | None:
    """The span of a request, or None where its trace is not sampled."""
    meta = params.get("_meta")
    said = meta.get(TRACEPARENT) if isinstance(meta, dict) else None
    found = _PARENT.fullmatch(said) if isinstance(said, str) and len(said) < 512 else None
    if found is not None and not (found[1] == "00" and found[5]):
        if not int(found[4], 16) & 1:
            return None
        state = meta.get("tracestate") if isinstance(meta, dict) else None
        return Span(found[2], found[3], state if isinstance(state, str) and len(state) <= 512 else "")
    if config.sample < 1 and _random.random() >= config.sample:
        return None
    return Span(_id(16), "", "")


def adopt(params: dict[str, Any], headers: Mapping[bytes, bytes]) -> None:
    """The HTTP headers' context into ``_meta``, where that has none of its own."""
    meta = params.get("_meta")
    if isinstance(meta, dict) and TRACEPARENT in meta:
        return
    names = (TRACEPARENT, "tracestate", "baggage")
    said = {n: headers[n.encode()].decode("latin-1") for n in names if n.encode() in headers}
    params["_meta"] = {**(meta if isinstance(meta, dict) else {}), **said}


def as_otlp(span: Span, record: Mapping[str, Any], extra: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The call's spans as OTLP/JSON has them (opentelemetry-proto 1.x, trace.proto; ids are hex there)."""
    ended = time.time_ns()
    about = {
        "mcp.method.name": record["method"],
        "mcp.session.id": record["session"],
        "gen_ai.tool.name": record["tool"] if record["method"] == "tools/call" else None,
        "harbourmaster.server": record["server"],
        "harbourmaster.principal": record["principal"],
        "harbourmaster.outcome": record["outcome"],
        "harbourmaster.sandbox": record["sandbox"] or None,
        "error.type": record.get("code") or (record["outcome"] if record["outcome"] in _FAILED else None),
        "jsonrpc.request.id": span.request_id or None,
        "gen_ai.tool.call.arguments": span.arguments or None,
        **extra,
    }
    name = f"{record['method']} {record['tool']}".strip() if record["method"] != "resources/read" else record["method"]
    spans = [_span(span, span.id, span.parent, name, SERVER, span.began, ended, about, record)]
    if span.sent:
        below = {k: about[k] for k in ("mcp.method.name", "gen_ai.tool.name", "harbourmaster.server", "error.type")}
        until = span.answered or ended
        spans.append(_span(span, span.child, span.id, name, CLIENT, span.sent, until, below, record))
    return spans


_FAILED: Final = frozenset({"refused", "failed", "tool_error", "rpc_error"})


def _span(
    span: Span,
    own: str,
    parent: str,
    name: str,
    kind: int,
    began: int,
    ended: int,
    about: Mapping[str, Any],
    record: Mapping[str, Any],
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "traceId": span.trace,
        "spanId": own,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(began),
        "endTimeUnixNano": str(max(began, ended)),
        "attributes": attributes(about),
        "status": {"code": ERROR, "message": record["outcome"]} if record["outcome"] in _FAILED else {},
    }
    if parent:
        body["parentSpanId"] = parent
    if span.state:
        body["traceState"] = span.state
    return body


def attributes(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": str(value)}} for key, value in about.items() if value is not None]


def _id(size: int) -> str:
    """Random, and never all zeros (W3C Trace Context section 3.2.2.3)."""
    return f"{_random.randrange(1, 1 << 8 * size):0{2 * size}x}"
