"""Scores of all documents for a query, as one array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from catalog.search.index import Floats, Index
from catalog.search.query import Query, Slot

LEAST_COVERED = 0.35
"""A document keeps this share of its score when it covers nothing of the query's importance, all of it when it covers all."""
WHOLE_NAME = 1.3
CUT = 0.08
"""What scores less than this share of the best is not shown."""


def scores(query: Query, index: Index) -> tuple[Floats, float]:
    """One number per document, 0 where it does not match; and how much of the query the best one covers, 0 to 1."""
    size = len(index.cards)
    total = np.zeros(size, dtype=np.float32)
    covered = np.zeros(size, dtype=np.float32)
    importance = sum(slot.importance for slot in query.slots) or 1.0
    for slot in query.slots:
        found, factor = _slot_scores(slot, index)
        total += found
        covered += factor * np.float32(slot.importance / importance)
    total *= LEAST_COVERED + (1 - LEAST_COVERED) * covered
    total *= index.prior
    for number in index.names.get(query.key, ()):
        total[number] *= WHOLE_NAME
    best = total.max(initial=0.0)
    total[total < best * CUT] = 0.0
    return total, float(covered[int(np.argmax(total))]) if best > 0 else 0.0


def _slot_scores(slot: Slot, index: Index) -> tuple[Floats, Floats]:
    """The best alternative's score in each document, and how well that alternative stands for the word."""
    size = len(index.cards)
    best, factors = np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.float32)
    for phrase, factor in slot.alternatives.items():
        docs, weights = index.postings(phrase[0]) if len(phrase) == 1 else _all_of(phrase, index)
        value = weights * np.float32(factor)
        better = value > best[docs]
        best[docs[better]] = value[better]
        factors[docs] = np.maximum(factors[docs], np.float32(factor))
    return best, factors


def _all_of(phrase: tuple[int, ...], index: Index) -> tuple[NDArray[np.int32], Floats]:
    """Documents that hold every term of the phrase, with the mean of the terms' weights."""
    docs, weights = index.postings(phrase[0])
    for term in phrase[1:]:
        others, more = index.postings(term)
        docs, left, right = np.intersect1d(docs, others, assume_unique=True, return_indices=True)
        weights = weights[left] + more[right]
    return docs, (weights / len(phrase)).astype(np.float32)
