"""What the index holds of an entry: a card to show, and words by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from catalog.search.knowledge import glossary
from catalog.search.tokens import identifier_words, with_joined, words
from catalog.vulnerabilities.entries import entries_with_sbom, vulnerabilities_of

# Field -> (weight, length normalisation b).  BM25F (Robertson & Zaragoza 2009, section 3.6): a word's count in each
# field is normalised by that field's length and weighted, then saturated once.
FIELDS: dict[str, tuple[float, float]] = {
    "name": (6.0, 0.6),
    "title": (6.0, 0.6),
    "publisher": (1.5, 0.0),
    "tags": (2.5, 0.4),
    "category": (1.2, 0.0),
    "about": (3.0, 0.4),
    "description": (2.5, 0.6),
    "tools": (1.5, 0.7),
    "tool_text": (0.8, 0.7),
    "arguments": (0.4, 0.7),
    "keywords": (0.5, 0.7),
    "readme": (0.3, 0.8),
}
MAX_FIELD_CHARS = 20_000


@dataclass(slots=True)
class Card:
    """What a result shows; also what filters and facets look at."""

    id: int
    name: str
    title: str
    description: str
    kind: str
    category: str
    tier: str
    publisher: str
    licence: str
    icon: str
    status: str
    network: str
    needs_secrets: bool
    read_only: bool
    runnable: bool
    updated_at: str
    source: str
    tags: tuple[str, ...] = ()
    tools: int = 0
    evidence: tuple[str, ...] = ()
    vulnerable: bool | None = None
    """Whether a known vulnerability affects it; None where no SBOM says what it holds."""


@dataclass(slots=True)
class SearchDocument:
    card: Card
    fields: dict[str, list[str]] = field(default_factory=dict)


def words_of(card: Card, tools: list[tuple[str, str, list[str]]], keywords: str, readme: str) -> dict[str, list[str]]:
    """Surface words by field; ``tools`` are (name, description, argument names and descriptions)."""
    name, title = identifier_words(card.name), words(card.title)
    return {
        "name": with_joined(name),
        "title": with_joined(title),
        "publisher": identifier_words(card.publisher),
        "tags": [w for tag in card.tags for w in with_joined(words(tag))],
        "category": words(card.category),
        "about": words(about(card)),
        "description": words(card.description[:MAX_FIELD_CHARS]),
        "tools": [w for t in tools for w in identifier_words(t[0])],
        "tool_text": words(" ".join(t[1] for t in tools)[:MAX_FIELD_CHARS]),
        "arguments": [w for t in tools for a in t[2] for w in identifier_words(a)][:4000],
        "keywords": identifier_words(keywords[:MAX_FIELD_CHARS]),
        "readme": words(readme[:MAX_FIELD_CHARS]),
    }


def about(card: Card) -> str:
    """What the products in the entry's name and title are, by the glossary."""
    texts = (glossary().about(identifier_words(card.name)), glossary().about(words(card.title)))
    return " ".join(dict.fromkeys(filter(None, texts)))


def load(session: Session, registry: str) -> Iterator[SearchDocument]:
    """Every entry that ``registry`` shows and that is not deleted; of one name in two sources, the first source's."""
    cards = _cards(session, registry)
    versions = {r.entry_id: r for r in session.execute(text(_VERSIONS)) if r.entry_id in cards}
    _attach(session, cards, versions)
    _judge(session, cards)
    tools = _tools(session)
    for card in cards.values():
        version = versions.get(card.id)
        listed = tools.pop(version.id, []) if version else []
        card.tools = len(listed)
        found = words_of(card, listed, version.keywords if version else "", version.readme if version else "")
        yield SearchDocument(card, found)


_CARDS = """
SELECT e.id, e.name, e.title, e.description, e.kind, e.category, e.tier, e.publisher, e.licence, e.icon, e.status,
       e.network, e.needs_secrets, e.read_only, e.runnable, e.updated_at, s.name AS source
FROM catalog_entry e
JOIN catalog_registry_source rs ON rs.source_id = e.source_id
JOIN catalog_source s ON s.id = e.source_id
WHERE rs.registry_id = :registry AND e.status <> 'deleted'
ORDER BY e.name, rs.position, e.id
"""
_VERSIONS = "SELECT id, entry_id, keywords, readme FROM catalog_entry_version WHERE is_latest ORDER BY id"
_TOOLS = """
SELECT t.version_id, t.name, t.description, CAST(t.arguments AS TEXT) AS arguments
FROM catalog_tool t JOIN catalog_entry_version v ON v.id = t.version_id
WHERE v.is_latest ORDER BY t.version_id, t.position
"""
_TAGS = "SELECT et.entry_id, t.name FROM catalog_entry_tag et JOIN catalog_tag t ON t.id = et.tag_id ORDER BY et.entry_id, t.name"
_EVIDENCE = """
SELECT i.version_id, ev.kind FROM catalog_image i JOIN catalog_evidence ev ON ev.digest = i.digest
ORDER BY i.version_id, ev.kind
"""


def _cards(session: Session, registry: str) -> dict[int, Card]:
    number = session.execute(text("SELECT id FROM catalog_registry WHERE name = :n"), {"n": registry}).scalar()
    if number is None:
        return {}
    seen: set[str] = set()
    cards: dict[int, Card] = {}
    for row in session.execute(text(_CARDS), {"registry": number}):
        if row.name in seen:
            continue
        seen.add(row.name)
        values = dict(row._mapping)
        for flag in ("needs_secrets", "read_only", "runnable"):
            values[flag] = bool(values[flag])
        cards[row.id] = Card(**values)
    return cards


def _judge(session: Session, cards: dict[int, Card]) -> None:
    """Mark the cards whose packages are known with whether a known vulnerability affects them."""
    for entry in entries_with_sbom(session):
        if entry.id in cards:
            cards[entry.id].vulnerable = bool(vulnerabilities_of(session, entry).affecting)


def _tools(session: Session) -> dict[int, list[tuple[str, str, list[str]]]]:
    found: dict[int, list[tuple[str, str, list[str]]]] = {}
    for row in session.execute(text(_TOOLS)):
        arguments: list[dict[str, Any]] = json.loads(row.arguments) if row.arguments and row.arguments != "[]" else []
        names = [w for a in arguments for w in (a.get("name", ""), a.get("description", ""))]
        found.setdefault(row.version_id, []).append((row.name, row.description, names))
    return found


def _attach(session: Session, cards: dict[int, Card], versions: dict[int, Any]) -> None:
    tags: dict[int, list[str]] = {}
    for row in session.execute(text(_TAGS)):
        tags.setdefault(row.entry_id, []).append(row.name)
    evidence: dict[int, list[str]] = {}
    for row in session.execute(text(_EVIDENCE)):
        evidence.setdefault(row.version_id, []).append(row.kind)
    for card in cards.values():
        card.tags = tuple(tags.get(card.id, ()))
        version = versions.get(card.id)
        card.evidence = tuple(evidence.get(version.id, ())) if version else ()
