"""What one run may use.  A run that reaches a limit ends and says which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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

    def reached(self) -> str:
        """The limit that was reached, in words; empty while there is room."""
        budget = self.budget
        if self.rounds >= budget.rounds:
            return f"the limit of {budget.rounds} rounds"
        if self.tokens >= budget.tokens:
            return f"the limit of {budget.tokens} written tokens"
        if self.seconds >= budget.seconds:
            return f"the limit of {budget.seconds:g} seconds"
        return ""
