"""How fast a model answers over HTTP: streams in parallel for a while, counted by what arrives.

Tokens are those that the server's usage says; time to the first is from sending the request to the first text.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2

from runner.errors import EngineFailed, RunnerDown

ANSWER_TOKENS = 128


@dataclass
class Round:
    """Measurements with one number of parallel streams."""

    streams: int
    requests: int = 0
    failed: int = 0
    tokens: int = 0
    seconds: float = 0.0
    first_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    errors: set[str] = field(default_factory=set)

    def as_dict(self) -> dict[str, Any]:
        rate = self.tokens / self.seconds if self.seconds else 0.0
        return {
            "concurrency": self.streams,
            "requests": self.requests,
            "failed": self.failed,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(rate, 2),
            "tokens_per_second_per_stream": round(rate / self.streams, 2),
            "first_token_ms_p50": _ms(self.first_s, 50),
            "first_token_ms_p95": _ms(self.first_s, 95),
            "request_ms_p50": _ms(self.whole_s, 50),
            "errors": sorted(self.errors),
        }


async def bench(
    url: str, model: str, prompt: str, streams: int, *, duration_s: float, timeout_s: float, tokens: int = ANSWER_TOKENS
) -> Round:
    """Each stream sends one request after the other until the time is over; the last ones are waited for.

    Raises ``RunnerDown`` where nothing answers, ``EngineFailed`` where the first request fails.
    """
    result = Round(streams)
    limits = httpx2.Limits(max_connections=streams, max_keepalive_connections=streams)
    async with httpx2.AsyncClient(timeout=httpx2.Timeout(timeout_s), limits=limits) as client:
        began = time.monotonic()
        await asyncio.gather(
            *(
                _stream(client, url, _body(model, f"{prompt} ({i})", tokens), began + duration_s, result)
                for i in range(streams)
            )
        )
        result.seconds = time.monotonic() - began
    if not result.tokens:
        raise EngineFailed(f"no request was answered: {'; '.join(sorted(result.errors)) or 'no text came'}")
    return result


def _body(model: str, prompt: str, tokens: int) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def _stream(client: httpx2.AsyncClient, url: str, body: dict[str, Any], until: float, result: Round) -> None:
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            first, tokens = await _once(client, url, body, began)
        except httpx2.ConnectError as e:
            raise RunnerDown(f"no model runner answers at {url}", remedy="start one: hm model serve") from e
        except (httpx2.HTTPError, EngineFailed) as e:
            result.failed += 1
            result.errors.add(str(e)[:200])
            return  # a stream that fails would fail again, faster
        result.requests += 1
        result.tokens += tokens
        result.first_s.append(first)
        result.whole_s.append(time.monotonic() - began)


async def _once(client: httpx2.AsyncClient, url: str, body: dict[str, Any], began: float) -> tuple[float, int]:
    first, tokens = 0.0, 0
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            raise EngineFailed((await answer.aread()).decode(errors="replace")[:300])
        async for frame in _frames(answer):
            if not first and frame["choices"] and frame["choices"][0]["delta"].get("content"):
                first = time.monotonic() - began
            tokens = (frame.get("usage") or {}).get("completion_tokens", tokens)
    return first, tokens


async def _frames(answer: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        if line.startswith("data: {"):
            frame = json.loads(line[6:])
            if "error" in frame:
                raise EngineFailed(str(frame["error"].get("message")))
            yield frame


def _ms(values: list[float], percent: int) -> float | None:
    if not values:
        return None
    if len(values) == 1:
        return round(values[0] * 1000, 1)
    return round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1] * 1000, 1)
