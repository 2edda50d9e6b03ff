"""Words near a misspelled one: candidates by shared trigrams, decided by edit distance (optimal string alignment)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

MAX_CANDIDATES = 60
MIN_CHARS = 4


def trigrams(word: str) -> set[str]:
    padded = f"^{word}$"
    return {padded[i : i + 3] for i in range(len(padded) - 2)}


def allowed_edits(length: int) -> int:
    """Short words differ too easily: one edit from four letters, two from eight."""
    return 0 if length < MIN_CHARS else 1 if length < 8 else 2


class Speller:
    """Finds words of a vocabulary within a few edits."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._words = vocabulary
        lists: dict[str, list[int]] = defaultdict(list)
        for number, word in enumerate(vocabulary):
            for gram in trigrams(word):
                lists[gram].append(number)
        self._postings: dict[str, NDArray[np.int32]] = {g: np.asarray(n, dtype=np.int32) for g, n in lists.items()}
        self._sizes = np.asarray([len(w) for w in vocabulary], dtype=np.int32)

    def near(self, word: str) -> list[tuple[int, int]]:
        """``(number of the word, edits)`` for each word close enough, nearest first."""
        edits = allowed_edits(len(word))
        if not edits:
            return []
        found = ((n, distance(word, self._words[n], edits)) for n in self._candidates(word, edits))
        return sorted(((n, d) for n, d in found if d <= edits), key=lambda pair: (pair[1], pair[0]))

    def _candidates(self, word: str, edits: int) -> Iterable[int]:
        grams = trigrams(word)
        lists = [self._postings[g] for g in grams if g in self._postings]
        if not lists:
            return []
        numbers, shared = np.unique(np.concatenate(lists), return_counts=True)
        close = np.abs(self._sizes[numbers] - len(word)) <= edits
        numbers, shared = numbers[close], shared[close]
        order = np.argsort(-shared, kind="stable")[:MAX_CANDIDATES]
        return [int(n) for n in numbers[order]]


def distance(a: str, b: str, limit: int) -> int:
    """Insertions, deletions, replacements and swaps of neighbours; ``limit + 1`` when there are more."""
    if a == b:
        return 0
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    before_last: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before_last[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
        before_last, last = last, row
    return min(last[-1], limit + 1)
