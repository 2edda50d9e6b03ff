"""Sources as people manage them: add, list, remove, sync.  The one place that knows which reader reads which kind."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from pathlib import Path

from sqlmodel import Session, col, func, select

from catalog.errors import SourceExists, SourceUnknown, SourceUnreadable
from catalog.importer import ImportReport, Offer, import_offers
from catalog.models import CatalogEntry, Registry, RegistrySource, Source
from catalog.sources.folder import read_folder
from catalog.store import Store, touch
from harbourmaster.core.errors import HarbourError, UsageError

DEFAULT_REGISTRY = "default"
_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")

Reader = Callable[[Path], "list[Offer]"]
FILE_READERS: dict[str, Callable[[Path], object]] = {"mcp-registry": read_folder}
KINDS = ("mcp-registry",)


def utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def add_source(store: Store, name: str, kind: str, location: str, registry: str = DEFAULT_REGISTRY) -> Source:
    """Remember a source and show it in ``registry``; reads nothing yet."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a source", remedy="use a-z, 0-9 and single . _ - between them")
    if kind not in KINDS:
        raise UsageError(f"no source kind {kind!r}", remedy=f"one of: {', '.join(KINDS)}")
    with store.writing() as session:
        if session.exec(select(Source).where(Source.name == name)).first():
            raise SourceExists(f"there is a source {name} already", remedy=f"run: hm catalog source rm {name}")
        source = Source(name=name, kind=kind, location=_absolute(kind, location))
        session.add(source)
        session.flush()
        _show(session, registry, source)
        touch(session)
    return source


def _absolute(kind: str, location: str) -> str:
    return location if "://" in location or kind == "oci" else str(Path(location).expanduser().absolute())


def _show(session: Session, registry: str, source: Source) -> None:
    row = session.exec(select(Registry).where(Registry.name == registry)).first() or Registry(name=registry)
    session.add(row)
    session.flush()
    last = session.exec(select(func.max(RegistrySource.position)).where(RegistrySource.registry_id == row.id)).one()
    assert row.id is not None
    assert source.id is not None
    session.add(RegistrySource(registry_id=row.id, source_id=source.id, position=0 if last is None else last + 1))


def get_source(session: Session, name: str) -> Source:
    source = session.exec(select(Source).where(Source.name == name)).first()
    if source is None:
        known = ", ".join(s.name for s in session.exec(select(Source).order_by(Source.name))) or "none"
        raise SourceUnknown(f"no source {name}", remedy=f"known: {known}")
    return source


def list_sources(store: Store) -> list[tuple[Source, int]]:
    """Each source with the number of its entries that are not deleted."""
    with store.reading() as session:
        counts = dict(
            session.exec(
                select(CatalogEntry.source_id, func.count())
                .where(CatalogEntry.status != "deleted")
                .group_by(col(CatalogEntry.source_id))
            ).all()
        )
        return [(s, counts.get(s.id or 0, 0)) for s in session.exec(select(Source).order_by(Source.name))]


def remove_source(store: Store, name: str) -> None:
    """Forget a source and everything that came from it alone."""
    with store.writing() as session:
        session.delete(get_source(session, name))
        touch(session)


def sync_source(store: Store, name: str) -> ImportReport:
    """Read the source now; on failure the catalog keeps what it had, and the source remembers why."""
    with store.reading() as session:
        source = get_source(session, name)
    try:
        report = _sync(store, source)
    except HarbourError as e:
        _remember(store, name, error=f"{e.code}: {e.message}")
        raise
    _remember(store, name, error="")
    return report


def _sync(store: Store, source: Source) -> ImportReport:
    assert source.id is not None
    reader = FILE_READERS.get(source.kind)
    if reader is None:
        raise SourceUnreadable(f"no reader for {source.kind}", remedy="remove the source")
    offers = reader(Path(source.location))
    return import_offers(store, source.id, offers, complete=True, now=utc_now())  # type: ignore[arg-type]


def _remember(store: Store, name: str, *, error: str) -> None:
    with store.writing() as session:
        source = get_source(session, name)
        source.last_error = error
        source.attempts = source.attempts + 1 if error else 0
        if not error:
            source.synced_at = utc_now()
