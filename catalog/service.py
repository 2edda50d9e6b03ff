"""Sources as people manage them: add, list, remove, sync.  The one place that knows which reader reads which kind."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from sqlmodel import Session, col, func, select

from catalog.errors import SourceExists, SourceUnknown
from catalog.importer import ImportReport
from catalog.models import CatalogEntry, Registry, RegistrySource, Source
from catalog.sources.registry_client import Backoff
from catalog.store import Store, touch
from catalog.sync import FILES, KINDS, sync
from harbourmaster.core.errors import HarbourError, UsageError
from harbourmaster.core.settings import Settings

DEFAULT_REGISTRY = "default"
_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")

POLL_EVERY_S = 3600  # what the official registry asks of those who copy it (docs/reference/api, "poll at most hourly")
FIRST_RETRY_S, MAX_RETRY_S = 60, 6 * 3600


def utc_now() -> str:
    return _iso(datetime.datetime.now(datetime.UTC))


def _iso(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def add_source(store: Store, name: str, kind: str, location: str, registry: str = DEFAULT_REGISTRY) -> Source:
    """Remember a source and show it in ``registry``; reads nothing yet."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a source", remedy="use a-z, 0-9 and single . _ - between them")
    if kind not in KINDS:
        raise UsageError(f"no source kind {kind!r}", remedy=f"one of: {', '.join(KINDS)}")
    with store.writing() as session:
        if session.exec(select(Source).where(Source.name == name)).first():
            raise SourceExists(f"there is a source {name} already", remedy=f"run: hm catalog source rm {name}")
        source = Source(name=name, kind=kind, location=absolute(kind, location))
        session.add(source)
        session.flush()
        _show(session, registry, source)
        touch(session)
    return source


def absolute(kind: str, location: str) -> str:
    return str(Path(location).expanduser().absolute()) if kind in FILES else location


def _show(session: Session, registry: str, source: Source) -> None:
    row = session.exec(select(Registry).where(Registry.name == registry)).first() or Registry(name=registry)
    session.add(row)
    session.flush()
    last = session.exec(select(func.max(RegistrySource.position)).where(RegistrySource.registry_id == row.id)).one()
    assert row.id is not None
    assert source.id is not None
    session.add(RegistrySource(registry_id=row.id, source_id=source.id, position=0 if last is None else last + 1))


def show_in(store: Store, registry: str, source: str) -> None:
    """Show a source in one more registry, after those it has; the registry is made where there is none."""
    with store.writing() as session:
        _show(session, registry, get_source(session, source))
        touch(session)


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


def sync_source(store: Store, settings: Settings, name: str, backoff: Backoff | None = None) -> ImportReport:
    """Read the source now; on failure the catalog keeps what it had, and the source remembers why and when to try again."""
    with store.reading() as session:
        source = get_source(session, name)
    try:
        report = sync(store, settings, source, utc_now(), backoff)
    except HarbourError as e:
        _remember(store, name, error=f"{e.code}: {e.message}")
        raise
    _remember(store, name, error="")
    return report


def due_sources(store: Store, now: str) -> list[str]:
    """Sources whose next sync is due, by name: an hour after a good one, later and later after failures."""
    with store.reading() as session:
        found = session.exec(select(Source).where(Source.next_attempt_at <= now).order_by(Source.name))
        return [s.name for s in found]


def _remember(store: Store, name: str, *, error: str) -> None:
    with store.writing() as session:
        source = get_source(session, name)
        source.last_error = error
        source.attempts = source.attempts + 1 if error else 0
        wait = min(FIRST_RETRY_S * 2 ** (source.attempts - 1), MAX_RETRY_S) if error else POLL_EVERY_S
        source.next_attempt_at = _iso(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=wait))
        if not error:
            source.synced_at = utc_now()
