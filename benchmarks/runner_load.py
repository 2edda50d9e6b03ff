"""Streaming chat requests, many at once, over bare sockets: the client must not be what limits a server.

While answers come, only bytes and times are kept; everything is read after the last one has ended.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_END = b"data: [DONE]"


@dataclass(frozen=True)
class Answer:
    """One request's stream.  Times in seconds on one clock."""

    began: float
    stamps: tuple[float, ...]  # when each piece of text came
    tokens: int
    prompt_tokens: int
    cached_tokens: int

    @property
    def first_ms(self) -> float:
        return (self.stamps[0] - self.began) * 1000


@dataclass(frozen=True)
class Burst:
    """Requests that were sent at the same time."""

    answers: tuple[Answer, ...]

    @property
    def first_ms(self) -> float:
        return statistics.median(a.first_ms for a in self.answers)

    @property
    def last_first_ms(self) -> float:
        return max(a.first_ms for a in self.answers)

    @property
    def whole(self) -> float:
        """Tokens per second from the first request to the last token."""
        began, ended = min(a.began for a in self.answers), max(a.stamps[-1] for a in self.answers)
        return sum(a.tokens for a in self.answers) / (ended - began)

    @property
    def generating(self) -> float | None:
        """Tokens per second while all of them generate; None where they never do (more requests than slots)."""
        start, end = max(a.stamps[0] for a in self.answers), min(a.stamps[-1] for a in self.answers)
        pieces = sum(sum(1 for s in a.stamps if start < s <= end) for a in self.answers)
        every = sum(a.tokens for a in self.answers) / sum(len(a.stamps) for a in self.answers)
        return pieces * every / (end - start) if end > start and pieces > len(self.answers) else None


async def burst(url: str, prompts: list[list[dict[str, str]]], tokens: int) -> Burst:
    """Each prompt is a list of messages; each answer has exactly ``tokens`` tokens."""
    return Burst(tuple(await asyncio.gather(*(_ask(url, _body(p, tokens)) for p in prompts))))


def _body(messages: list[dict[str, str]], tokens: int) -> bytes:
    return json.dumps(
        {
            "model": "bench",
            "messages": messages,
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()


async def _ask(url: str, body: bytes) -> Answer:
    where = urlsplit(url)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    transport, stream = await loop.create_connection(_Stream, where.hostname or "", where.port or 80)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
    transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    try:
        await stream.ended
    finally:
        transport.close()
    return _read(began, stream.received)


class _Stream(asyncio.Protocol):
    def __init__(self) -> None:
        self.received: list[tuple[float, bytes]] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received.append((time.perf_counter(), data))
        if _END in data and not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.ended.done():
            said = b"".join(data for _, data in self.received)[-500:].decode(errors="replace")
            self.ended.set_exception(RuntimeError(f"the stream broke off: {said}"))


def _read(began: float, received: list[tuple[float, bytes]]) -> Answer:
    stamps: list[float] = []
    usage: dict[str, Any] = {}
    rest = b""
    for stamp, data in received:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                frame = json.loads(line[6:])
                stamps += [stamp] * _has_text(frame)
                usage = frame.get("usage") or usage
    if not stamps or not usage:
        raise RuntimeError(f"no answer: {b''.join(data for _, data in received)[:500]!r}")
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return Answer(began, tuple(stamps), usage["completion_tokens"], usage["prompt_tokens"], cached)


def _has_text(frame: dict[str, Any]) -> bool:
    return any(choice["delta"].get("content") for choice in frame.get("choices") or ())
