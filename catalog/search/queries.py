"""Vectors of queries, at the speed of typing: remembered, bounded in time, and done without where the model fails."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict

from catalog.search.index import Floats
from catalog.search.semantic import Embedder
from harbourmaster.core.errors import HarbourError

REMEMBERED = 4096
TIMEOUT_S = 0.25  # a person is typing
REST_S = 30.0
"""After a failure the model is left alone for this long: no search waits for what is known to be away."""

log = logging.getLogger("harbourmaster.catalog")


class QueryVectors:
    """Thread safe."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._kept: OrderedDict[str, Floats] = OrderedDict()
        self._lock = threading.Lock()
        self._rests_until = 0.0

    def of(self, query: str) -> Floats | None:
        key = " ".join(query.split()).casefold()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        if not key or time.monotonic() < self._rests_until:
            return None
        try:
            vector: Floats = self._embedder.embed([key], timeout_s=TIMEOUT_S)[0]
        except HarbourError as e:
            log.info("search goes on by words alone: %s", e.message)
            self._rests_until = time.monotonic() + REST_S
            return None
        with self._lock:
            self._kept[key] = vector
            while len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
        return vector
