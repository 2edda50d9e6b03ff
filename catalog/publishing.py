"""Publishing to this catalog over the registry API: a ``server.json`` becomes a version that nobody can change afterwards.

Source: docs/reference/api/openapi.yaml of github.com/modelcontextprotocol/registry (2025-12-01), ``POST /v0.1/publish``,
``PATCH /v0.1/servers/{name}/versions/{version}/status``.
"""

from __future__ import annotations

from typing import Any, get_args

import orjson
from sqlmodel import Session, col, select
from univers.versions import InvalidVersion, SemverVersion

from catalog import service
from catalog.errors import EntryUnknown, NameTaken, PublicationInvalid, VersionPublished
from catalog.importer import import_offers
from catalog.models import CatalogEntry, EntryVersion, Source
from catalog.records import EntryRecord, Status
from catalog.registry_api import get_version
from catalog.sources.rawjson import parse
from catalog.sources.serverjson import MEDIA_TYPE, OFFICIAL, read_item
from catalog.store import Store
from harbourmaster.core.files import file_lock
from harbourmaster.core.settings import Settings

SOURCE = KIND = "published"
STATUSES = get_args(Status)


def publish(store: Store, settings: Settings, document: bytes, *, now: str) -> bytes:
    """The version as the registry serves it.  ``now``: RFC 3339, UTC.

    Raises ``EntryUnreadable``, ``VersionPublished``, ``NameTaken``, and ``PublicationInvalid`` for what could not run safely.
    """
    with file_lock(settings.home / "publish.lock"):
        record = _record(document, status="active", published=now, updated=now, latest=True)
        _refuse_unsafe(record)
        source = _source(store)
        with store.reading() as session:
            _refuse_taken(session, record.name, source)
            known = _versions(session, record.name, source)
        if record.version in {v.version for v in known}:
            raise VersionPublished(
                f"{record.name} {record.version} is published already",
                remedy="raise the version: what is published stays as it is",
            )
        if not _is_newest(record.version, [v.version for v in known if v.is_latest]):
            record = _record(document, status="active", published=now, updated=now, latest=False)
        import_offers(store, source, [record], complete=False, now=now)
    return _served(store, record.name, record.version)


def set_status(
    store: Store, settings: Settings, name: str, version: str, status: str, message: str = "", *, now: str
) -> bytes:
    """Deprecate, delete or restore a published version.  Raises ``EntryUnknown``, ``PublicationInvalid``."""
    if status not in STATUSES:
        raise PublicationInvalid(f"no status {status[:40]!r}", remedy=f"one of: {', '.join(STATUSES)}")
    with file_lock(settings.home / "publish.lock"):
        source = _source(store)
        with store.reading() as session:
            found = next((v for v in _versions(session, name, source) if v.version == version), None)
        if found is None:
            raise EntryUnknown(f"{name} {version} was not published here", remedy="see its versions")
        published, latest = found.published_at, found.is_latest
        record = _record(
            found.document, status=status, published=published, updated=now, latest=latest, message=message
        )
        import_offers(store, source, [record], complete=False, now=now)
    return _served(store, name, version)


def published(store: Store) -> list[dict[str, Any]]:
    """``{name, version, status, is_latest, published_at}`` of every version that was published here, by name, the newest first."""
    query = (
        select(CatalogEntry.name, EntryVersion)
        .join(EntryVersion, col(EntryVersion.entry_id) == col(CatalogEntry.id))
        .join(Source, col(Source.id) == col(CatalogEntry.source_id))
        .where(Source.kind == KIND, EntryVersion.media_type == MEDIA_TYPE)
        .order_by(CatalogEntry.name, col(EntryVersion.published_at).desc(), col(EntryVersion.id).desc())
    )
    keys = ("version", "status", "is_latest", "published_at")
    with store.reading() as session:
        return [{"name": name} | {key: getattr(version, key) for key in keys} for name, version in session.exec(query)]


def _record(
    document: bytes, *, status: str, published: str, updated: str, latest: bool, message: str = ""
) -> EntryRecord:
    """The document as it came, with the facts that a registry keeps about it."""
    facts = {"status": status, "publishedAt": published, "updatedAt": updated, "isLatest": latest}
    meta = {OFFICIAL: facts | ({"statusMessage": message} if message else {})}
    server = parse(document)
    if not isinstance(server.value, dict):
        raise PublicationInvalid("a server.json is a JSON object", remedy="send the object itself")
    return read_item(parse(b'{"server":' + server.data + b',"_meta":' + orjson.dumps(meta) + b"}"))


def _refuse_unsafe(record: EntryRecord) -> None:
    """Others' registries are copied with what is wrong in them; here, who publishes can still mend it."""
    wrong = [f"{f.code} at {f.path}: {f.message}" for f in record.findings if f.severity == "error"]
    if wrong:
        raise PublicationInvalid("; ".join(wrong)[:1000], remedy="mend these and publish again")


def _refuse_taken(session: Session, name: str, source: int) -> None:
    """One name, one source: nothing published here takes the place of what another catalog lists."""
    query = select(Source.name).join(CatalogEntry, col(CatalogEntry.source_id) == col(Source.id))
    other = session.exec(query.where(CatalogEntry.name == name, CatalogEntry.source_id != source)).first()
    if other:
        raise NameTaken(f"{name} is listed by the source {other}", remedy="publish under a name of your own")


def _versions(session: Session, name: str, source: int) -> list[EntryVersion]:
    query = select(EntryVersion).join(CatalogEntry, col(CatalogEntry.id) == col(EntryVersion.entry_id))
    where = (CatalogEntry.name == name, CatalogEntry.source_id == source, EntryVersion.media_type == MEDIA_TYPE)
    return list(session.exec(query.where(*where)))


def _is_newest(version: str, latest: list[str]) -> bool:
    """By semantic versioning where all are such versions, else what is published last is the newest."""
    try:
        return all(SemverVersion(version) > SemverVersion(other) for other in latest)
    except InvalidVersion:
        return True


def _source(store: Store) -> int:
    for source, _ in service.list_sources(store):
        if source.kind == KIND:
            assert source.id is not None
            return source.id
    found = service.add_source(store, SOURCE, KIND, "what is published to this catalog")
    assert found.id is not None
    return found.id


def _served(store: Store, name: str, version: str) -> bytes:
    with store.reading() as session:
        return get_version(session, name, version, include_deleted=True)
