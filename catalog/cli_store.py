"""What every catalog command shares: the opened store, and ``--json``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from catalog.store import Store
from harbourmaster.core.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="machine-readable output")]


@contextmanager
def opened() -> Iterator[tuple[Store, Settings]]:
    settings = Settings.load()
    store = Store.open(settings)
    try:
        yield store, settings
    finally:
        store.close()
