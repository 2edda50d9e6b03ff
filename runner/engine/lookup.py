"""Guesses at what a sequence says next: what followed when it, or its prompt, last said the same (prompt lookup).

The library computes a few tokens at once for little more than one, so that a guess costs little and each that comes true
spares a step.  What is said stays the sampler's choice: it is asked at every place, and a wrong guess is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass

from runner.engine.model import Tokens

SAME = 3  # tokens that have to be the same before a guess
AT_ONCE = 8  # tokens of all sequences in a step that has guesses; beyond, each costs as much as it could spare
FIRST = 2  # tokens of a sequence's first guess
LONGEST_REST = 64  # steps


def guess(said: Tokens, most: int) -> list[int]:
    """What followed the last place, before the end, where the last ``SAME`` tokens of ``said`` stand.

    >>> import numpy as np
    >>> guess(np.array([1, 2, 3, 4, 5, 9, 1, 2, 3], np.int32), 2)
    [4, 5]
    """
    if most < 1 or len(said) <= SAME:
        return []
    before, same = said[:-1].tobytes(), said[-SAME:].tobytes()
    at = before.rfind(same)
    while at % said.itemsize and at >= 0:  # not where a token begins
        at = before.rfind(same, 0, at + len(same) - 1)
    if at < 0:
        return []
    after = at // said.itemsize + SAME
    return [int(token) for token in said[after : after + most]]


@dataclass(slots=True)
class Guesser:
    """How far one sequence's guesses are worth it: longer after those that came true, rarer after those that did not."""

    _length: int = FIRST
    _rest: int = 0  # steps to go before the next guess
    _pause: int = 1

    def guess(self, said: Tokens, most: int) -> list[int]:
        if self._rest:
            self._rest -= 1
            return []
        return guess(said, min(most, self._length))

    def learn(self, guessed: int, true: int) -> None:
        if true == guessed:
            self._length, self._pause = min(2 * self._length, AT_ONCE), 1
        elif true:
            self._length, self._pause = max(true, 1), 1
        else:
            self._length, self._rest, self._pause = 1, self._pause, min(2 * self._pause, LONGEST_REST)
