"""Guessing from what was said before: a pure function and when it rests."""

from __future__ import annotations

import numpy as np
import pytest

from runner.engine.lookup import AT_ONCE, Guesser, guess


def tokens(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.mark.parametrize(
    ("said", "most", "next_ones"),
    [
        ((1, 2, 3, 4, 5, 1, 2, 3), 8, [4, 5, 1, 2, 3]),
        ((1, 2, 3, 4, 5, 1, 2, 3), 1, [4]),
        ((1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3), 2, [5, 1]),  # the last time counts
        ((9, 2, 3, 4, 1, 2, 3), 4, []),  # two of three are not enough
        ((1, 9, 3, 4, 1, 2, 3), 4, []),
        ((1, 2, 9, 4, 1, 2, 3), 4, []),
        ((7, 7, 7, 7), 4, [7]),  # it may overlap with its own place
        ((1, 2, 3), 4, []),
        ((1, 2, 3, 4, 1, 2, 3), 0, []),
        ((), 4, []),
    ],
)
def test_what_followed_the_same_three_tokens_is_guessed(said: tuple[int, ...], most: int, next_ones: list[int]) -> None:
    assert guess(tokens(*said), most) == next_ones


def test_guesses_grow_while_they_come_true_and_rest_when_they_do_not() -> None:
    said = tokens(*[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14] * 2)
    guesser = Guesser()
    lengths = []
    for _ in range(4):
        guessed = guesser.guess(said, 64)
        lengths.append(len(guessed))
        guesser.learn(len(guessed), len(guessed))
    assert lengths == [2, 4, AT_ONCE, AT_ONCE]
    rests = []
    for _ in range(4):
        steps = 0
        while not (guessed := guesser.guess(said, 64)):
            steps += 1
        rests.append(steps)
        guesser.learn(len(guessed), 0)
    assert rests == [0, 1, 2, 4]
