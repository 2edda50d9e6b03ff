"""The headers that say over HTTP what a message is: 2025-11-25 and 2026-07-28, basic/transports.  Pure but for the SDK's import."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway import eras, sdk
from gateway.remote.net import Headers

JSON: Final = (b"content-type", b"application/json")
ACCEPT: Final = (b"accept", b"application/json, text/event-stream")
ACCEPT_EVENTS: Final = (b"accept", b"text/event-stream")


def trace(body: Mapping[str, Any]) -> Headers:
    """The trace context in ``_meta`` as the headers of W3C Trace Context; what is none is left out, so that nothing a client
    says there can become another header."""
    meta = (body.get("params") or {}).get("_meta")
    if not isinstance(meta, dict):
        return []
    found = [(name.encode(), meta[name].encode()) for name, form in _TRACE.items() if _fits(form, meta.get(name))]
    return found if found and found[0][0] == b"traceparent" else []


_TRACE: Final = {
    "traceparent": re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
    "tracestate": re.compile(r"[!-~ ]{1,512}"),
}


def _fits(form: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


class Routing:
    """``tools``: the locked ones; their schemas say which arguments a header repeats (SEP-2243)."""

    def __init__(self, tools: Iterable[Mapping[str, Any]] = ()) -> None:
        self._schemas = {t["name"]: t.get("inputSchema") for t in tools if _mentions_headers(t.get("inputSchema"))}

    def modern(self, body: Mapping[str, Any]) -> Headers:
        """For a request of 2026-07-28."""
        method, params = body["method"], body.get("params") or {}
        version = (params.get("_meta") or {}).get(eras.PROTOCOL_VERSION_META_KEY, eras.LATEST_MODERN_VERSION)
        headers = [(b"mcp-protocol-version", str(version).encode()), (b"mcp-method", method.encode())]
        named = params.get(eras.name_parameter(method) or "")
        if isinstance(named, str):
            headers.append((b"mcp-name", sdk.encode_header(named).encode()))
            if method == "tools/call" and named in self._schemas:
                headers += self._arguments(self._schemas[named], params.get("arguments") or {})
        return headers

    def _arguments(self, schema: Any, arguments: Mapping[str, Any]) -> Headers:
        found = sdk.param_headers(schema, arguments)
        return [(name.encode(), value.encode()) for name, value in found.items()]


def _mentions_headers(schema: Any) -> bool:
    return isinstance(schema, dict) and "x-mcp-header" in str(schema)
