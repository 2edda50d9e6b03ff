"""Search as the command line, REST and the web use it.

>>> searcher = Searcher(store)
>>> page = searcher.search(SearchRequest("send an email", filters={"tier": ("built",)}))
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from catalog.errors import QueryInvalid
from catalog.search.documents import Card, SearchDocument, load
from catalog.search.filters import FacetIndex, Mask, checked
from catalog.search.index import Floats, Index, build
from catalog.search.queries import QueryVectors
from catalog.search.query import MAX_QUERY_CHARS, understand
from catalog.search.ranking import scores
from catalog.search.semantic import Described, Embedder, Meaning, blended, described
from catalog.search.turns import Turns
from catalog.search.vectors import drop_unused, make_missing, meaning_of
from catalog.store import Store

DEFAULT_LIMIT = 20
CHECK_EVERY_S = 0.02
"""How long another process's change may stay unseen: under load one question to the database serves many searches."""
MAX_LIMIT = 200
SORTS = ("relevance", "name", "updated", "tools")


@dataclass(frozen=True)
class SearchRequest:
    text: str = ""
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sort: str = "relevance"
    offset: int = 0
    limit: int = DEFAULT_LIMIT
    prefix: bool = False
    """The last word is still being typed."""
    facets: bool = True


@dataclass(frozen=True)
class Hit:
    card: Card
    score: float


@dataclass(frozen=True)
class SearchPage:
    hits: list[Hit]
    total: int
    facets: dict[str, dict[str, int]]
    corrected: dict[str, str]
    """Words that nothing is called, and what was searched instead."""
    revision: int


@dataclass(frozen=True)
class _Built:
    revision: int
    index: Index
    facets: FacetIndex
    texts: tuple[Described, ...] = ()
    meaning: Meaning | None = None


class Searcher:
    """Keeps the index of one registry and replaces it when the catalog's revision has moved.  Thread safe.

    With an ``embedder``, entries near in meaning count too, once ``vectors.make_missing`` has made the vectors of all.
    """

    def __init__(self, store: Store, registry: str = "default", embedder: Embedder | None = None) -> None:
        self._store, self._registry = store, registry
        self._embedder = embedder
        self._vectors = QueryVectors(embedder) if embedder else None
        self._built: _Built | None = None
        self._building, self._asking = threading.Lock(), threading.Lock()
        self._known: tuple[int, int, float] = (0, -1, 0.0)
        """Revision, the store's writes when it was asked, and when."""
        # One search at a time: threads that share the interpreter lock finish sooner in turn than by pushing.
        self._turns = Turns()

    def search(self, request: SearchRequest) -> SearchPage:
        """One page; raises ``QueryInvalid`` for an unknown filter, sort or page."""
        _check(request)
        built = self._current()
        near = self._nearness(request, built)  # asks the model before it takes its turn
        with self._turns:
            return self._page(request, built, near)

    def _nearness(self, request: SearchRequest, built: _Built) -> Floats | None:
        """Cosines of all documents; None without a model, and for words that are still being typed."""
        if built.meaning is None or self._vectors is None or request.prefix or not request.text.strip():
            return None
        vector = self._vectors.of(request.text[:MAX_QUERY_CHARS])
        return None if vector is None else built.meaning.nearness(vector)

    def _page(self, request: SearchRequest, built: _Built, near: Floats | None) -> SearchPage:
        query = understand(request.text, built.index, prefix=request.prefix)
        found, covered = scores(query, built.index) if query.slots else (None, 0.0)
        if found is not None and near is not None:
            found = blended(found, covered, near)
        matched = found > 0 if found is not None else np.ones(len(built.index.cards), dtype=np.bool_)
        filters = checked(request.filters)
        kept = matched & built.facets.mask(filters)
        order = _order(request, built.index, found, kept)
        page = order[request.offset : request.offset + request.limit]
        return SearchPage(
            hits=[Hit(built.index.cards[n], round(float(found[n]), 4) if found is not None else 0.0) for n in page],
            total=int(np.count_nonzero(kept)),
            facets=_facets(built.facets, filters, matched) if request.facets else {},
            corrected=query.corrected,
            revision=built.revision,
        )

    def refresh(self) -> int:
        """Build now if the catalog has changed, or wait for whoever does; the revision that is searched from here on."""
        return self._current(wait=True).revision

    def _revision(self) -> int:
        """Asked of the database after every write of ours, else now and then, and then by one thread for all."""
        written = self._known[1] != self._store.writes
        if not written and time.monotonic() - self._known[2] <= CHECK_EVERY_S:
            return self._known[0]
        if self._asking.acquire(blocking=written):
            try:
                writes = self._store.writes
                self._known = (self._store.revision(), writes, time.monotonic())
            finally:
                self._asking.release()
        return self._known[0]

    def _current(self, *, wait: bool = False) -> _Built:
        revision = self._revision()
        built = self._built
        if built and built.revision == revision:
            return built
        if built and not self._building.acquire(blocking=wait):
            return built  # another thread builds; what was true a moment ago is good enough meanwhile
        if not built:
            self._building.acquire()
        try:
            if self._built is None or self._built.revision != revision:
                self._built = self._build()
            return self._built
        finally:
            self._building.release()

    def _build(self) -> _Built:
        revision = self._store.revision()  # before reading: a change meanwhile is then seen at the next search
        texts: list[Described] = []
        with self._store.reading() as session:
            index = build(self._noting(load(session, self._registry), texts))
        meaning = meaning_of(self._store, texts) if self._embedder else None
        return _Built(revision, index, FacetIndex(index.cards), tuple(texts), meaning)

    def _noting(self, documents: Iterator[SearchDocument], texts: list[Described]) -> Iterator[SearchDocument]:
        for document in documents:
            if self._embedder:
                texts.append(described(document, self._embedder.model))
            yield document

    def learn(self) -> Iterator[int]:
        """Make the vectors that are missing, then search with them; yields how many entries are left, now and then.

        Slow, so a thread of its own may run through it after every change.  Raises ``EmbedderUnavailable``.
        """
        built = self._current()
        if self._embedder is None or built.meaning is not None:
            return
        yield from make_missing(self._store, self._embedder, built.texts)
        drop_unused(self._store, self._embedder.model, built.texts)
        meaning = meaning_of(self._store, built.texts)
        with self._building:
            if self._built is built:
                self._built = replace(built, meaning=meaning)


def _check(request: SearchRequest) -> None:
    if request.sort not in SORTS:
        raise QueryInvalid(f"cannot sort by {request.sort!r}", remedy=f"one of: {', '.join(SORTS)}")
    if request.offset < 0 or not 1 <= request.limit <= MAX_LIMIT:
        raise QueryInvalid("no such page", remedy=f"offset from 0, limit from 1 to {MAX_LIMIT}")


def _order(request: SearchRequest, index: Index, found: Floats | None, kept: Mask) -> NDArray[np.int64]:
    """Numbers of the kept documents, best first; cards are in the order of names, which settles ties."""
    numbers = np.flatnonzero(kept)
    if request.sort == "relevance" and found is not None:
        return numbers[np.argsort(-found[numbers], kind="stable")]
    if request.sort == "updated":
        return np.asarray(sorted(numbers, key=lambda n: index.cards[n].updated_at, reverse=True), dtype=np.int64)
    if request.sort == "tools":
        return numbers[np.argsort([-index.cards[n].tools for n in numbers], kind="stable")]
    if request.sort == "relevance":
        return numbers[np.argsort(index.standing[numbers], kind="stable")]
    return numbers


def _facets(index: FacetIndex, filters: Mapping[str, tuple[str, ...]], matched: Mask) -> dict[str, dict[str, int]]:
    """Each facet's counts under the other facets' filters, so that a choice never hides its alternatives."""
    counted = index.all_counts(matched & index.mask(filters))
    return counted | {
        f: index.counts(f, matched & index.mask(filters, without=f)) for f, wanted in filters.items() if wanted
    }
