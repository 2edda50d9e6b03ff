"""Spans on their way to a collector: OTLP/HTTP with JSON (opentelemetry-proto, docs/specification "OTLP/HTTP").

Calls never wait for a collector: spans lie in a bounded queue, go out in batches, and are dropped and counted when the
collector does not take them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import Any, Final

import httpx2

from gateway.messages import encode
from gateway.telemetry.config import TelemetryConfig
from gateway.telemetry.traces import attributes

log = logging.getLogger("gateway.telemetry")

QUEUE: Final = 8192  # spans
BATCH: Final = 512  # in one request: the SDKs' own default
EVERY_S: Final = 2.0
TIMEOUT_S: Final = 10.0  # the SDKs' own default
TRIES: Final = 3  # of one batch, one interval apart
_AGAIN: Final = frozenset({429, 502, 503, 504})  # OTLP/HTTP, "Retryable Response Codes"


class Exporter:
    """``queue`` is the hot path.  ``dropped``: spans that no collector got."""

    def __init__(self, config: TelemetryConfig, version: str, *, every_s: float = EVERY_S) -> None:
        self.config = config
        self.dropped = 0
        self._version = version
        self._every_s = every_s
        self._waiting: deque[dict[str, Any]] = deque()
        self._batch: list[dict[str, Any]] = []
        self._tries = 0
        self._complained = False
        self._client: httpx2.AsyncClient | None = None
        self._task: asyncio.Task[None] | None = None

    def queue(self, spans: list[dict[str, Any]]) -> None:
        if len(self._waiting) >= QUEUE:
            self.dropped += len(spans)
            return
        self._waiting.extend(spans)

    def start(self) -> None:
        self._client = httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, headers=self.config.otlp_headers)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Send what is left, once."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        while self._batch or self._waiting:
            before = self.dropped
            await self._send(last=True)
            if self.dropped > before:
                self.dropped += len(self._waiting)
                break
        if self._client is not None:
            await self._client.aclose()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            full = True
            while full and (self._batch or self._waiting):
                full = len(self._waiting) >= BATCH
                if not await self._send():
                    break

    async def _send(self, *, last: bool = False) -> bool:
        """One batch; True where it is gone, to the collector or for good.  ``last``: it is not tried again."""
        if not self._batch:
            self._batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        self._tries += 1
        again, why = await self._post(encode(self._request(self._batch)))
        if not why:
            self._complained = False
        elif again and not last and self._tries < TRIES:
            return False
        else:
            self.dropped += len(self._batch)
            self._complain(why)
        self._batch, self._tries = [], 0
        return True

    async def _post(self, body: bytes) -> tuple[bool, str]:
        """(worth another try, why it failed: empty where it did not)."""
        assert self._client is not None
        try:
            response = await self._client.post(
                f"{self.config.otlp_endpoint}/v1/traces", content=body, headers={"content-type": "application/json"}
            )
        except httpx2.HTTPError as e:
            return True, f"{type(e).__name__}: {e}"
        if response.status_code // 100 == 2:
            return False, ""
        return response.status_code in _AGAIN, f"status {response.status_code}"

    def _request(self, spans: list[dict[str, Any]]) -> dict[str, Any]:
        resource = {"service.name": self.config.service_name, "service.version": self._version}
        scope = {"name": "harbourmaster.gateway", "version": self._version}
        return {
            "resourceSpans": [
                {
                    "resource": {"attributes": attributes(resource)},
                    "scopeSpans": [{"scope": scope, "spans": spans}],
                }
            ]
        }

    def _complain(self, why: str) -> None:
        if not self._complained:
            log.warning("spans are lost: the collector at %s does not take them (%s)", self.config.otlp_endpoint, why)
        self._complained = True
