"""The catalog's advisories for ``hm registry check``, which knows no catalog."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sqlmodel import func, select

from catalog.models import Advisory
from catalog.store import Store
from catalog.vulnerabilities.components import component_rows
from catalog.vulnerabilities.matching import Match, Package, match
from harbourmaster.core.settings import Settings
from registry.known import Examine, Examined, Known


@contextlib.contextmanager
def examining(settings: Settings) -> Iterator[Examine]:
    """Compares SBOMs with the advisories that were imported here; nothing is kept of them."""
    store = Store.open(settings)

    def examine(sbom: dict[str, Any]) -> Examined:
        packages = [Package(*(row[key] for key in Package.__slots__)) for row in component_rows("", sbom)]
        with store.reading() as session:
            count = session.exec(select(func.count()).select_from(Advisory)).one()
            return Examined(count, len(packages), tuple(_known(hit) for hit in match(session, packages)))

    try:
        yield examine
    finally:
        store.close()


def _known(hit: Match) -> Known:
    return Known(hit.ids, hit.severity, hit.score, hit.package.name, hit.package.version, hit.fixed_in)
