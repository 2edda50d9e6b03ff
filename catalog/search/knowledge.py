"""Curated words: what people call things (synonyms.txt) and what well-known products are (glossary.txt)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from catalog.search.tokens import stem, words

HERE = Path(__file__).parent

Phrase = tuple[str, ...]
"""Stems in order."""


@dataclass(frozen=True)
class Synonyms:
    """``of(("k8s",))`` -> the phrases that mean the same."""

    table: dict[Phrase, tuple[Phrase, ...]]
    longest: int

    def of(self, phrase: Phrase) -> tuple[Phrase, ...]:
        return self.table.get(phrase, ())


@dataclass(frozen=True)
class Glossary:
    """``about(["google", "maps"])`` -> what the products named there are, as one text."""

    products: dict[Phrase, str]
    longest: int

    def about(self, name_words: list[str]) -> str:
        """The longest product names win; their words name nothing else."""
        found: list[str] = []
        position = 0
        while position < len(name_words):
            for size in range(min(self.longest, len(name_words) - position), 0, -1):
                text = self.products.get(tuple(name_words[position : position + size]))
                if text:
                    found.append(text)
                    position += size
                    break
            else:
                position += 1
        return " ; ".join(dict.fromkeys(found))


def phrase(text: str) -> Phrase:
    return tuple(stem(w) for w in words(text))


@cache
def synonyms() -> Synonyms:
    table: dict[Phrase, list[Phrase]] = {}
    for line in _lines("synonyms.txt"):
        both = "~" in line
        left, _, right = line.partition("~" if both else "=")
        for other in right.split(","):
            _link(table, phrase(left), phrase(other))
            if both:
                _link(table, phrase(other), phrase(left))
    return Synonyms({k: tuple(dict.fromkeys(v)) for k, v in table.items()}, max(map(len, table)))


def _link(table: dict[Phrase, list[Phrase]], left: Phrase, right: Phrase) -> None:
    if left and right and left != right:
        table.setdefault(left, []).append(right)


@cache
def glossary() -> Glossary:
    products: dict[Phrase, str] = {}
    for line in _lines("glossary.txt"):
        names, _, text = line.partition(":")
        for name in names.split(","):
            products[tuple(words(name))] = text.strip()
    return Glossary(products, max(map(len, products)))


def _lines(name: str) -> list[str]:
    text = (HERE / name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
