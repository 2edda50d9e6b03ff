"""What a person typed -> slots: one per word, each with the index terms that may stand for it and how well they do."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from catalog.search.index import Index
from catalog.search.knowledge import Phrase, synonyms
from catalog.search.tokens import STOPWORDS, stem, words

MAX_QUERY_CHARS = 200
MAX_QUERY_WORDS = 16

EXACT = 1.0
JOINED = 0.95
SYNONYM = 0.7
PREFIX = 0.8
ONE_EDIT = 0.75
TWO_EDITS = 0.55
UNKNOWN_PREFIX = 0.7


@dataclass(slots=True)
class Slot:
    """One word of the query: ``alternatives`` maps a phrase of term numbers to how well it stands for the word."""

    word: str
    alternatives: dict[tuple[int, ...], float] = field(default_factory=dict)
    importance: float = 0.0

    def offer(self, phrase: tuple[int, ...], factor: float) -> None:
        if phrase and factor > self.alternatives.get(phrase, 0.0):
            self.alternatives[phrase] = factor


@dataclass(slots=True)
class Query:
    slots: list[Slot]
    key: str
    """The query written as one word, to recognise a whole name."""
    corrected: dict[str, str] = field(default_factory=dict)


def understand(text: str, index: Index, *, prefix: bool = False) -> Query:
    """``prefix``: the last word is still being typed."""
    typed = words(text[:MAX_QUERY_CHARS])[:MAX_QUERY_WORDS]
    kept = [w for w in typed if w not in STOPWORDS] or typed
    query = Query([Slot(w) for w in kept], "".join(typed))
    for slot in query.slots:
        if stem(slot.word) in index.terms:
            slot.offer((index.terms[stem(slot.word)],), EXACT)
    _add_joined(query.slots, index)
    _add_synonyms(query.slots, index)
    if prefix and query.slots and typed[-1] == query.slots[-1].word:
        _add_prefix(query.slots[-1], index, PREFIX)
    for slot in query.slots:
        if not slot.alternatives:
            _add_guesses(slot, index, query)
    for slot in query.slots:
        slot.importance = _importance(slot, index)
    return query


def _add_joined(slots: list[Slot], index: Index) -> None:
    """``mongo db`` also means ``mongodb``."""
    for a, b in itertools.pairwise(slots):
        term = index.terms.get(stem(a.word + b.word))
        if term is not None:
            a.offer((term,), JOINED)
            b.offer((term,), JOINED)


def _add_synonyms(slots: list[Slot], index: Index) -> None:
    table = synonyms()
    stems = [stem(s.word) for s in slots]
    for size in range(1, min(table.longest, len(stems)) + 1):
        for first in range(len(stems) - size + 1):
            for meaning in table.of(tuple(stems[first : first + size])):
                numbers = _numbers(meaning, index)
                for slot in slots[first : first + size]:
                    slot.offer(numbers, SYNONYM)


def _numbers(phrase: Phrase, index: Index) -> tuple[int, ...]:
    """Term numbers of the phrase's words that say something; empty when one of them occurs nowhere."""
    telling = [w for w in phrase if w not in STOPWORDS]
    if not telling or any(w not in index.terms for w in telling):
        return ()
    return tuple(index.terms[w] for w in telling)


def _add_prefix(slot: Slot, index: Index, factor: float) -> None:
    for term in index.starting_with(slot.word):
        slot.offer((term,), factor)


def _add_guesses(slot: Slot, index: Index, query: Query) -> None:
    """Nothing is called that: words that it is misspelled from, or the beginning of."""
    near = index.near(slot.word)
    nearest = [(word, term) for word, term, edits in near if edits == near[0][2]]
    factor = ONE_EDIT if near and near[0][2] == 1 else TWO_EDITS
    for _, term in nearest:
        slot.offer((term,), factor)
    if len(slot.word) >= 3:
        _add_prefix(slot, index, UNKNOWN_PREFIX)
    if nearest:
        query.corrected[slot.word] = nearest[0][0]
        for meaning in synonyms().of((stem(nearest[0][0]),)):
            slot.offer(_numbers(meaning, index), SYNONYM * factor)


def _importance(slot: Slot, index: Index) -> float:
    """How much the word tells: the idf of its best reading; a word that nothing knows tells little."""
    if not slot.alternatives:
        return 1.0
    best = max(slot.alternatives.values())
    return max(float(index.idf[t]) for phrase, f in slot.alternatives.items() if f == best for t in phrase)
