"""The catalog for ``mcp-find``: opened when somebody first asks."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from gateway.dynamic.errors import CatalogUnavailable
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings

if TYPE_CHECKING:
    from catalog.search.searcher import Searcher
    from catalog.store import Store

log = logging.getLogger("gateway.dynamic")

THREADS: Final = 2  # of its own: searches that wait for a locked database must not keep threads that calls need
ANSWER_S: Final = (
    20.0  # longer than a database is waited for (harbourmaster/core/db.py), so that its own words are told
)


class CatalogSearch:
    """``search(query, limit)``: blocking, thread safe.  Raises ``CatalogUnavailable`` and what a search raises."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opening = threading.Lock()
        self._store: Store | None = None
        self._searcher: Searcher | None = None

    def search(self, query: str, limit: int) -> list[dict[str, Any]]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return self._search(query, limit)
        except SQLAlchemyError as e:
            log.warning("the catalog could not be searched: %s", e)
            raise unavailable() from e

    def _search(self, query: str, limit: int) -> list[dict[str, Any]]:
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


class Aside:
    """Blocking questions to the catalog, in threads of their own and for so long."""

    def __init__(self, answer_s: float = ANSWER_S) -> None:
        self._answer_s = answer_s
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="catalog")

    async def ask(self, question: Any, *given: Any) -> Any:
        """Raises ``CatalogUnavailable``, and what the question raises that is not the database's doing."""
        asked = asyncio.get_running_loop().run_in_executor(self._threads, question, *given)
        try:
            return await asyncio.wait_for(asked, self._answer_s)
        except TimeoutError:
            raise unavailable() from None
        except HarbourError as e:
            if e.code.startswith("database."):  # its words name where the database is, which is no caller's business
                log.warning("the catalog could not be searched: %s", e.message)
                raise unavailable() from e
            raise

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def unavailable() -> CatalogUnavailable:
    return CatalogUnavailable(
        "the catalog's database does not answer: it is locked by another process, or cannot be reached",
        remedy="try again; tools of servers that are locked here work without it (operators: hm doctor)",
    )
