"""What passes between the text side (main thread) and the writer thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runner.engine.model import Tokens
from runner.engine.options import Generation
from runner.engine.pictures import Prompt
from runner.engine.sampling import Likelihood


@dataclass(frozen=True)
class Generate:
    id: int
    prompt: Prompt
    generation: Generation


@dataclass(frozen=True)
class Embed:
    id: int
    inputs: tuple[Tokens, ...]


@dataclass(frozen=True)
class Cancel:
    id: int


@dataclass(frozen=True)
class Ask:
    """Run ``answer`` on the writer thread."""

    id: int
    answer: Callable[[], Any]


@dataclass(frozen=True)
class Stop:
    pass


Command = Generate | Embed | Cancel | Ask | Stop


@dataclass(slots=True)
class Token:
    id: int  # the request's
    token: int
    likelihood: Likelihood | None = None


@dataclass(slots=True)
class Finished:
    """``reason``: ``stop`` (the model ended), ``length`` or ``cancelled``."""

    id: int
    reason: str
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated: int = 0
    timings: dict[str, float] = field(default_factory=dict)  # seconds: queued, prefill, generation


@dataclass(slots=True)
class Failed:
    id: int
    error: Exception


@dataclass(slots=True)
class Result:
    id: int
    value: Any


Event = Token | Finished | Failed | Result


class Mailbox:
    """Commands for the writer: many senders, one reader who sleeps when there is nothing to do."""

    def __init__(self) -> None:
        self._items: deque[Command] = deque()
        self._ready = threading.Condition()

    def put(self, command: Command) -> None:
        with self._ready:
            self._items.append(command)
            self._ready.notify()

    def take(self, *, wait: bool) -> list[Command]:
        if not wait and not self._items:
            return []
        with self._ready:
            while wait and not self._items:
                self._ready.wait()
            items = list(self._items)
            self._items.clear()
        return items


def as_tokens(tokens: list[int]) -> Tokens:
    return np.array(tokens, np.int32)
