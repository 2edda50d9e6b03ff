"""How long steps take, so that one that will never end is told from one that is long.  The writer writes, another thread reads."""

from __future__ import annotations

from dataclasses import dataclass

LONG_S = 120.0  # a shorter step is never given up
FIRST_S = 1800.0  # nor is the first, before there is anything to compare it with
TIMES = 20  # longer than the slowest token so far, for each token of a step


@dataclass(slots=True)
class Pace:
    began: float = 0.0  # of the step that is under way; 0: none is
    tokens: int = 0  # in it
    slowest: float = 0.0  # seconds for one token, in any step

    def begin(self, tokens: int, now: float) -> None:
        self.tokens, self.began = tokens, now

    def end(self, now: float) -> float:
        """Seconds that the step took."""
        took, self.began = now - self.began, 0.0
        self.slowest = max(self.slowest, took / max(self.tokens, 1))
        return took

    def stuck(self, now: float) -> str:
        """What is wrong; empty where nothing is."""
        began, most = self.began, self.patience()
        if not began or now - began <= most:
            return ""
        return f"a step of {self.tokens} tokens has not come back within {most:.0f} s: llama.cpp hangs"

    def patience(self) -> float:
        return max(LONG_S, TIMES * self.slowest * self.tokens) if self.slowest else FIRST_S
