"""The inverted index: terms (stems) to documents with their BM25F weights computed once, in compact arrays.

Immutable after ``build``; many threads may search it at once.
"""

from __future__ import annotations

import functools
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
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

    @functools.cached_property
    def standing(self) -> Ints:
        """Where it stands in a list that nobody asked a question of; the least comes first."""
        return np.asarray([_standing(card) for card in self.cards], dtype=np.int32)

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


def build(documents: Iterable[SearchDocument]) -> Index:
    """Documents are read one by one and let go: only counts stay."""
    counts = _Counts()
    cards = []
    for number, document in enumerate(documents):
        cards.append(document.card)
        counts.add(number, document.fields)
    starts, docs, tf = _postings(counts, len(cards))
    held = np.diff(starts)
    idf = np.log1p((len(cards) - held + 0.5) / (held + 0.5)).astype(np.float32)
    surface = sorted(counts.words)
    return Index(
        cards=cards,
        terms=counts.terms,
        starts=starts,
        docs=docs,
        weights=(tf * (K1 + 1) / (tf + K1) * np.repeat(idf, held)).astype(np.float32),
        idf=idf,
        surface=surface,
        surface_term=np.asarray([counts.words[w] for w in surface], dtype=np.int32),
        speller=Speller(surface),
        names=_names(cards),
        prior=np.asarray([_prior(card) for card in cards], dtype=np.float32),
    )


class _Counts:
    """How often each term stands in each field of each document, as four parallel columns."""

    def __init__(self) -> None:
        self.terms: dict[str, int] = {}
        self.words: dict[str, int] = {}
        """Words as written -> number of their stem."""
        self.term, self.doc, self.field, self.count = array("i"), array("i"), array("i"), array("i")

    def add(self, number: int, fields: dict[str, list[str]]) -> None:
        for place, name in enumerate(FIELDS):
            counted = Counter(t for word in fields[name] if (t := self._term(word)) >= 0)
            self.term.extend(counted)
            self.count.extend(counted.values())
            self.doc.extend([number] * len(counted))
            self.field.extend([place] * len(counted))

    def _term(self, word: str) -> int:
        known = self.words.get(word)
        if known is not None:
            return known
        if word in STOPWORDS:
            return -1
        number = self.words[word] = self.terms.setdefault(stem(word), len(self.terms))
        return number


def _postings(counts: _Counts, size: int) -> tuple[NDArray[np.int64], Ints, Floats]:
    """BM25F's pseudo frequency of each term in each document, ordered by term and document."""
    term, doc, field, count = (
        np.frombuffer(c, dtype=np.int32) for c in (counts.term, counts.doc, counts.field, counts.count)
    )
    weight = np.asarray([w for w, _ in FIELDS.values()])
    b = np.asarray([b for _, b in FIELDS.values()])
    place = doc.astype(np.int64) * len(FIELDS) + field
    lengths = np.bincount(place, weights=count, minlength=size * len(FIELDS)).reshape(size, len(FIELDS))
    average = lengths.sum(axis=0) / np.maximum((lengths > 0).sum(axis=0), 1)
    share = weight / (1 - b + b * lengths / np.maximum(average, 1e-9))
    tf = share.ravel()[place] * count
    key = term.astype(np.int64) * max(size, 1) + doc
    pairs, inverse = np.unique(key, return_inverse=True)
    total = np.bincount(inverse, weights=tf, minlength=len(pairs)).astype(np.float32)
    starts = np.searchsorted(pairs, np.arange(len(counts.terms) + 1, dtype=np.int64) * max(size, 1))
    return starts, (pairs % max(size, 1)).astype(np.int32), total


def _prior(card: Card) -> float:
    """A product's own server before others' servers for it; what is on its way out after the rest."""
    publisher, name = _key(card.publisher.partition(".")[0]), _key(card.name + card.title)
    own = 1.08 if len(publisher) > 2 and publisher in name else 1.0
    return own * (0.85 if _is_leaving(card) else 1.0)


def _standing(card: Card) -> int:
    """What runs and has papers first; what cannot run as it is written, or is on its way out, after the rest."""
    return (8 if _is_leaving(card) else 0) + (0 if card.runnable else 4) - min(len(card.evidence), 3)


def _is_leaving(card: Card) -> bool:
    return card.status == "deprecated" or "archived" in f"{card.title} {card.description[:200]}".lower()


def _key(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def _names(cards: list[Card]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, card in enumerate(cards):
        for text in (card.name, card.title):
            numbers = found.setdefault(_key(text), [])
            if number not in numbers:
                numbers.append(number)
    found.pop("", None)
    return found
