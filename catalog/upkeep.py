"""Keeping a catalog current while a process serves it: due sources are read, vectors of new entries are made."""

from __future__ import annotations

import logging
import threading

from catalog import service
from catalog.search.searcher import Searcher
from catalog.store import Store
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings

EVERY_S = 15.0
CLOSE_S = 2.0

log = logging.getLogger("harbourmaster.catalog")


class Upkeep:
    """
    >>> with Upkeep(store, settings, searcher): serve()
    """

    def __init__(self, store: Store, settings: Settings, searcher: Searcher) -> None:
        self._store, self._settings, self._searcher = store, settings, searcher
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="catalog-upkeep", daemon=True)

    def __enter__(self) -> Upkeep:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(CLOSE_S)  # a sync that waits for a registry ends with the process; what it imported is kept

    def step(self) -> None:
        """One round; a source that fails keeps its entries, remembers why, and is tried again later."""
        for name in service.due_sources(self._store, service.utc_now()):
            if self._ending.is_set():
                return
            try:
                service.sync_source(self._store, self._settings, name)
            except HarbourError as e:
                log.warning("source %s was not read: %s (%s)", name, e.message, e.code)
        for _ in self._searcher.learn():
            if self._ending.is_set():
                return

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self.step()
            except HarbourError as e:  # no embedding model, or a database that is away: the next round tries again
                log.info("the catalog stays as it is: %s (%s)", e.message, e.code)
            except Exception:
                log.exception("a fault in the catalog's upkeep; the next round tries again")
            self._ending.wait(EVERY_S)
