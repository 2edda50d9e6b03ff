"""Search as the command line, REST and the web use it.

>>> searcher = Searcher(store)
>>> page = searcher.search(SearchRequest("send an email", filters={"tier": ("built",)}))
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from catalog.errors import QueryInvalid
from catalog.search.documents import Card, load
from catalog.search.filters import FacetIndex, Mask, checked
from catalog.search.index import Floats, Index, build
from catalog.search.query import understand
from catalog.search.ranking import scores
from catalog.search.turns import Turns
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


class Searcher:
    """Keeps the index of one registry and replaces it when the catalog's revision has moved.  Thread safe."""

    def __init__(self, store: Store, registry: str = "default") -> None:
        self._store, self._registry = store, registry
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
        with self._turns:
            return self._page(request, built)

    def _page(self, request: SearchRequest, built: _Built) -> SearchPage:
        query = understand(request.text, built.index, prefix=request.prefix)
        found = scores(query, built.index) if query.slots else None
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
        """Build now if the catalog has changed; the revision that is searched from here on."""
        return self._current().revision

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

    def _current(self) -> _Built:
        revision = self._revision()
        built = self._built
        if built and built.revision == revision:
            return built
        if built and not self._building.acquire(blocking=False):
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
        with self._store.reading() as session:
            index = build(load(session, self._registry))
        return _Built(revision, index, FacetIndex(index.cards))


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
    return numbers


def _facets(index: FacetIndex, filters: Mapping[str, tuple[str, ...]], matched: Mask) -> dict[str, dict[str, int]]:
    """Each facet's counts under the other facets' filters, so that a choice never hides its alternatives."""
    counted = index.all_counts(matched & index.mask(filters))
    return counted | {
        f: index.counts(f, matched & index.mask(filters, without=f)) for f, wanted in filters.items() if wanted
    }
