"""Begins a call's span and hands it to the exporter when the call is over."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gateway.downstream import Downstream
from gateway.telemetry import traces
from gateway.telemetry.traces import Span

if TYPE_CHECKING:
    from gateway.telemetry.export import Exporter

MAX_ARGUMENTS: Final = 4096  # characters of them in a span


class Tracer:
    """``clean``: takes credentials out of a text."""

    def __init__(self, exporter: Exporter, clean: Callable[[str], str]) -> None:
        self._exporter = exporter
        self._config = exporter.config
        self._clean = clean

    def begin(self, body: dict[str, Any]) -> Span | None:
        span = traces.begin(body["params"], self._config)
        if span is not None:
            span.request_id = str(body["id"])[:200]
            if self._config.arguments:
                text = json.dumps(body["params"].get("arguments"), ensure_ascii=True)
                span.arguments = self._clean(text)[:MAX_ARGUMENTS]
        return span

    def end(self, span: Span, record: dict[str, Any], client: Downstream) -> None:
        about = {"mcp.protocol.version": client.version, "harbourmaster.profile": client.view.name}
        self._exporter.queue(traces.as_otlp(span, record, about))
