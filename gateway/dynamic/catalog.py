"""The catalog for ``mcp-find``: opened when somebody first asks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from harbourmaster.core.settings import Settings

if TYPE_CHECKING:
    from catalog.search.searcher import Searcher
    from catalog.store import Store


class CatalogSearch:
    """``search(query, limit)``: blocking, thread safe.  Raises what the database raises."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opening = threading.Lock()
        self._store: Store | None = None
        self._searcher: Searcher | None = None

    def search(self, query: str, limit: int) -> list[dict[str, Any]]:
        from catalog.search.searcher import SearchRequest  # a second of imports that a start need not pay

        page = self._opened().search(SearchRequest(query, limit=limit, facets=False))
        return [
            {
                "name": hit.card.name,
                "title": hit.card.title,
                "description": hit.card.description,
                "tier": hit.card.tier,
                "kind": hit.card.kind,
                "tools": hit.card.tools,
            }
            for hit in page.hits
        ]

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def _opened(self) -> Searcher:
        with self._opening:
            if self._searcher is None:
                from catalog.search.searcher import Searcher
                from catalog.store import Store

                self._store = Store.open(self._settings)
                self._searcher = Searcher(self._store)
            return self._searcher
