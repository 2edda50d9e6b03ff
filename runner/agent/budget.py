"""What one run may use.  A run that reaches a limit ends and says which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Limit = Literal["", "rounds", "calls", "tokens", "seconds"]


@dataclass(frozen=True)
class Budget:
    rounds: int = 12  # times that the model is asked
    calls: int = 40
    tokens: int = 32_768  # that the model writes
    seconds: float = 900.0


@dataclass
class Spent:
    budget: Budget
    clock: Callable[[], float]
    rounds: int = 0
    calls: int = 0
    tokens: int = 0  # written by the model
    read: int = 0  # tokens of prompts, the shared parts of them included

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def seconds(self) -> float:
        return self.clock() - self.started

    @property
    def seconds_left(self) -> float:
        return max(self.budget.seconds - self.seconds, 0.0)

    @property
    def tokens_left(self) -> int:
        return max(self.budget.tokens - self.tokens, 0)

    def reached(self) -> Limit:
        """The limit that was reached; empty while there is room.  Calls over theirs are refused one by one."""
        if self.rounds >= self.budget.rounds:
            return "rounds"
        if self.tokens >= self.budget.tokens:
            return "tokens"
        return "seconds" if self.seconds >= self.budget.seconds else ""

    def words(self, limit: Limit) -> str:
        value = getattr(self.budget, limit)
        return f"the limit of {value:g} {'written tokens' if limit == 'tokens' else limit}"
