"""What a first visitor would wait for, done before anybody comes: templates, the search's index, the queries of a page."""

from __future__ import annotations

import logging
import threading

from catalog.search.searcher import SearchRequest
from web.harbour import Harbour
from web.render import compile_templates
from web.ship import ship

log = logging.getLogger("web")


def warm(harbour: Harbour) -> threading.Thread:
    """Begin, beside whoever is served already.  What fails here fails again, and is told, when somebody asks for it."""
    thread = threading.Thread(target=_warm, args=(harbour,), name="console-warm", daemon=True)
    thread.start()
    return thread


def _warm(harbour: Harbour) -> None:
    try:
        compile_templates()
        found = harbour.searcher.search(SearchRequest("", {}, "relevance", 0, 1))
        if found.hits:
            ship(harbour, found.hits[0].card.name)
    except Exception as e:
        log.debug("nothing was made ready: %s", e)
