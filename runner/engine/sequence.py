"""A request that runs: its tokens, how many are in memory, its sampler."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from runner.engine.lookup import Guesser
from runner.engine.model import Tokens
from runner.engine.requests import Finished, Generate
from runner.engine.sampling import Sampler


@dataclass(slots=True, eq=False)
class Sequence:
    request: Generate
    limit: int  # tokens that it may hold in all: prompt and generated
    sampler: Sampler | None = None
    slot: int = -1  # -1: waits
    done: int = 0  # tokens in memory
    cached: int = 0  # of the prompt, found in memory at first admission
    preempted: int = 0
    tokens: Tokens = field(default_factory=lambda: np.empty(0, np.int32))
    count: int = 0
    arrived: float = field(default_factory=time.monotonic)
    admitted: float = 0.0
    first_token: float = 0.0
    guesser: Guesser = field(default_factory=Guesser)
    guesses: list[int] = field(default_factory=list)  # of what comes after the next token, in this step
    id: int = field(init=False)
    pictured: bool = field(init=False)
    most: int = field(init=False)  # tokens with which it is full

    def __post_init__(self) -> None:
        prompt, longest = self.request.prompt, self.request.generation.max_tokens
        self.id, self.pictured = self.request.id, bool(prompt.pictures)
        self.count = len(prompt.tokens)
        self.most = self.limit if longest is None else min(self.limit, self.count + longest)
        self.tokens = np.empty(self.count + 64, np.int32)
        self.tokens[: self.count] = prompt.tokens

    @property
    def content(self) -> Tokens:
        return self.tokens[: self.count]

    @property
    def remaining(self) -> int:
        return self.count - self.done

    @property
    def generated(self) -> int:
        return self.count - len(self.request.prompt.tokens)

    @property
    def ahead(self) -> int:
        """Tokens to decode before the next picture."""
        return self.request.prompt.text_after(self.done, self.count) if self.pictured else self.remaining

    @property
    def position(self) -> int:
        """Of the next token."""
        return self.request.prompt.position(self.done) if self.pictured else self.done

    def push(self, token: int) -> None:
        if self.count == len(self.tokens):
            self.tokens = np.concatenate([self.tokens, np.empty(self.count, np.int32)])
        self.tokens[self.count] = token
        self.count += 1
        if not self.first_token:
            self.first_token = time.monotonic()

    def guess(self, most: int) -> int:
        """Guess at most so many tokens for this step; returns how many."""
        self.guesses = self.guesser.guess(self.content, min(most, self.most - self.count))
        return len(self.guesses)

    def with_guesses(self) -> Tokens:
        return np.array([self.tokens[self.done], *self.guesses], np.int32)

    def says(self, token: int) -> bool:
        """Is it still speaking, and was this what it said last?"""
        return self.sampler is not None and self.remaining == 1 and int(self.tokens[self.done]) == token

    def is_full(self) -> bool:
        return self.count >= self.most

    def finished(self, reason: str) -> Finished:
        now = time.monotonic()
        admitted = self.admitted or now
        first = self.first_token or now
        timings = {
            "queued_s": round(admitted - self.arrived, 6),
            "prefill_s": round(first - admitted, 6),
            "generation_s": round(now - first, 6),
        }
        return Finished(self.id, reason, len(self.request.prompt.tokens), self.cached, self.generated, timings)

    def close(self) -> None:
        if self.sampler:
            self.sampler.close()
            self.sampler = None
