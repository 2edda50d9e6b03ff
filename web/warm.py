"""What a first visitor would wait for, done before anybody comes: templates, and the queries of a server's page."""

from __future__ import annotations

import logging
import threading

from sqlmodel import select

from catalog.models import CatalogEntry
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
        with harbour.store.reading() as session:
            name = session.exec(select(CatalogEntry.name).limit(1)).first()
        if name is not None:
            ship(harbour, name)
    except Exception as e:
        log.debug("nothing was made ready: %s", e)
