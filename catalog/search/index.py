"""The inverted index: terms (stems) to documents with their BM25F weights computed once, in compact arrays.

Immutable after ``build``; many threads may search it at once.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalog.search.documents import FIELDS, Card, SearchDocument
from catalog.search.tokens import STOPWORDS, stem
from catalog.search.typos import Speller

K1 = 1.2  # the usual saturation; Robertson & Zaragoza 2009 give 1.2 to 2
MAX_PREFIX_TERMS = 64

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Index:
    cards: list[Card]
    terms: dict[str, int]
    """Stem -> number."""
    starts: NDArray[np.int64]
    docs: Ints
    weights: Floats
    idf: Floats
    surface: list[str]
    """Every word as written, sorted; prefixes and typos are looked up here."""
    surface_term: Ints
    speller: Speller
    names: dict[str, list[int]]
    """A whole name or title, written as one word, -> its documents."""
    prior: Floats
    """What is known of a document before anyone asks; 1 is ordinary."""

    def postings(self, term: int) -> tuple[Ints, Floats]:
        start, end = self.starts[term], self.starts[term + 1]
        return self.docs[start:end], self.weights[start:end]

    def starting_with(self, prefix: str) -> list[int]:
        """Terms of the words that begin with ``prefix``, the commonest first."""
        low = bisect_left(self.surface, prefix)
        high = bisect_left(self.surface, prefix + "\U0010ffff", lo=low)
        found = np.unique(self.surface_term[low:high])
        size = self.starts[found + 1] - self.starts[found]
        return [int(t) for t in found[np.argsort(-size, kind="stable")[:MAX_PREFIX_TERMS]]]

    def near(self, word: str) -> list[tuple[str, int, int]]:
        """``(word as written, its term, edits)`` for the words spelled nearly like ``word``, nearest first."""
        return [(self.surface[n], int(self.surface_term[n]), edits) for n, edits in self.speller.near(word)]


def build(documents: list[SearchDocument]) -> Index:
    surface_stem: dict[str, str] = {}
    counted = [{f: _stems(w, surface_stem) for f, w in d.fields.items()} for d in documents]
    average = _average_lengths(counted)
    frequency: dict[str, dict[int, float]] = {}
    for number, fields in enumerate(counted):
        for term, tf in _weighted(fields, average).items():
            frequency.setdefault(term, {})[number] = tf
    terms = {term: n for n, term in enumerate(sorted(frequency))}
    starts, docs, weights, idf = _arrays(frequency, terms, len(documents))
    surface = sorted(surface_stem)
    return Index(
        cards=[d.card for d in documents],
        terms=terms,
        starts=starts,
        docs=docs,
        weights=weights,
        idf=idf,
        surface=surface,
        surface_term=np.asarray([terms[surface_stem[w]] for w in surface], dtype=np.int32),
        speller=Speller(surface),
        names=_names(documents),
        prior=np.asarray([_prior(d.card) for d in documents], dtype=np.float32),
    )


def _stems(found: list[str], surface_stem: dict[str, str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for word, n in Counter(found).items():
        if word in STOPWORDS:
            continue
        root = surface_stem.get(word)
        if root is None:
            root = surface_stem[word] = stem(word)
        counts[root] += n
    return counts


def _average_lengths(counted: list[dict[str, Counter[str]]]) -> dict[str, float]:
    """Mean length of a field over the documents that have it."""
    average = {}
    for name in FIELDS:
        lengths = [n for fields in counted if (n := fields[name].total())]
        average[name] = sum(lengths) / len(lengths) if lengths else 1.0
    return average


def _weighted(fields: dict[str, Counter[str]], average: dict[str, float]) -> dict[str, float]:
    total: dict[str, float] = {}
    for name, counts in fields.items():
        if not counts:
            continue
        weight, b = FIELDS[name]
        share = weight / (1 - b + b * counts.total() / average[name])
        for term, n in counts.items():
            total[term] = total.get(term, 0.0) + share * n
    return total


def _arrays(
    frequency: dict[str, dict[int, float]], terms: dict[str, int], size: int
) -> tuple[NDArray[np.int64], Ints, Floats, Floats]:
    lists = [frequency[t] for t in terms]
    starts = np.zeros(len(lists) + 1, dtype=np.int64)
    np.cumsum([len(x) for x in lists], out=starts[1:])
    docs = np.fromiter((d for x in lists for d in x), dtype=np.int32, count=int(starts[-1]))
    tf = np.fromiter((w for x in lists for w in x.values()), dtype=np.float32, count=int(starts[-1]))
    idf = np.asarray([math.log(1 + (size - len(x) + 0.5) / (len(x) + 0.5)) for x in lists], dtype=np.float32)
    weights = (tf * (K1 + 1) / (tf + K1)) * np.repeat(idf, np.diff(starts))
    return starts, docs, weights.astype(np.float32), idf


def _prior(card: Card) -> float:
    """A product's own server before others' servers for it; what is on its way out after the rest."""
    publisher, name = _key(card.publisher.partition(".")[0]), _key(card.name + card.title)
    own = 1.08 if len(publisher) > 2 and publisher in name else 1.0
    leaving = card.status == "deprecated" or "archived" in card.description.lower()[:200]
    return own * (0.85 if leaving else 1.0)


def _key(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def _names(documents: list[SearchDocument]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, document in enumerate(documents):
        for text in {document.card.name, document.card.title}:
            if key := _key(text):
                found.setdefault(key, []).append(number)
    return found
