"""The read endpoints of the MCP registry API v0.1, as bytes for whoever serves HTTP.

Objects that came from another registry go out as the bytes they came in as; entries of other kinds are written in that form
where it can say them.  What we know beside it stands under our own key of ``_meta``, never inside ``server``.

Source: docs/reference/api/openapi.yaml of github.com/modelcontextprotocol/registry (2025-12-01).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import tuple_
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import Select

from catalog.errors import EntryUnknown, QueryInvalid
from catalog.models import CatalogEntry, EntryVersion, FindingRow, Registry, RegistrySource, Source
from catalog.sources import serverjson
from catalog.sources.rawjson import members, parse

DEFAULT_LIMIT, MAX_LIMIT = 30, 100  # the official registry's
OURS = "dev.harbourmaster/catalog"


@dataclass(frozen=True)
class ListRequest:
    cursor: str = ""
    limit: int = DEFAULT_LIMIT
    search: str = ""
    updated_since: str = ""
    version: str = ""
    include_deleted: bool = False


Row = tuple[CatalogEntry, EntryVersion]
Servers = Select[CatalogEntry, EntryVersion]


def list_servers(session: Session, request: ListRequest, registry: str = "default") -> bytes:
    """One page, in the order of name and version; raises ``QueryInvalid`` for a cursor that we did not give."""
    if not 1 <= request.limit <= MAX_LIMIT:
        raise QueryInvalid(f"limit {request.limit} is out of range", remedy=f"from 1 to {MAX_LIMIT}")
    query = _narrowed(_servers(registry), request)
    if request.cursor:
        query = query.where(tuple_(col(CatalogEntry.name), col(EntryVersion.id)) > tuple_(*_place(request.cursor)))
    rows = session.exec(query.order_by(CatalogEntry.name, col(EntryVersion.id)).limit(request.limit + 1)).all()
    page, more = rows[: request.limit], len(rows) > request.limit
    metadata: dict[str, Any] = {"count": len(page)}
    if more:
        metadata["nextCursor"] = _cursor(page[-1])
    return _list(session, page, metadata)


def list_versions(session: Session, name: str, *, include_deleted: bool = False, registry: str = "default") -> bytes:
    """All versions of a server, the newest first; raises ``EntryUnknown``."""
    query = _narrowed(_servers(registry), ListRequest(include_deleted=include_deleted)).where(CatalogEntry.name == name)
    rows = session.exec(query.order_by(col(EntryVersion.published_at).desc(), col(EntryVersion.id).desc())).all()
    if not rows:
        raise EntryUnknown(f"no server {name}", remedy="names are like com.example/my-server")
    return _list(session, rows, {"count": len(rows)})


def get_version(
    session: Session, name: str, version: str, *, include_deleted: bool = False, registry: str = "default"
) -> bytes:
    """One version, or ``latest``; raises ``EntryUnknown``."""
    query = _narrowed(_servers(registry), ListRequest(version=version, include_deleted=include_deleted))
    row = session.exec(query.where(CatalogEntry.name == name)).first()
    if row is None:
        raise EntryUnknown(f"no server {name} {version}", remedy="see its versions, or ask for latest")
    return _item(session, row)


def _servers(registry: str) -> Servers:
    return (
        select(CatalogEntry, EntryVersion)
        .join(EntryVersion, col(EntryVersion.entry_id) == col(CatalogEntry.id))
        .join(RegistrySource, col(RegistrySource.source_id) == col(CatalogEntry.source_id))
        .join(Registry, col(Registry.id) == col(RegistrySource.registry_id))
        .where(Registry.name == registry, EntryVersion.media_type == serverjson.MEDIA_TYPE)
    )


def _narrowed(query: Servers, request: ListRequest) -> Servers:
    if request.search:
        wanted = request.search.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        query = query.where(col(CatalogEntry.name).ilike(f"%{wanted}%", escape="\\"))
    if request.updated_since:
        query = query.where(EntryVersion.updated_at >= request.updated_since)
    if request.version == "latest":
        query = query.where(col(EntryVersion.is_latest))
    elif request.version:
        query = query.where(EntryVersion.version == request.version)
    if not (request.include_deleted or request.updated_since):
        query = query.where(EntryVersion.status != "deleted")
    return query


def _list(session: Session, rows: Any, metadata: dict[str, Any]) -> bytes:
    return (
        b'{"servers":[' + b",".join(_item(session, r) for r in rows) + b'],"metadata":' + orjson.dumps(metadata) + b"}"
    )


def _item(session: Session, row: Row) -> bytes:
    entry, version = row
    return b'{"server":' + version.document + b',"_meta":' + _meta(session, entry, version) + b"}"


def _meta(session: Session, entry: CatalogEntry, version: EntryVersion) -> bytes:
    """The other registry's facts as they came, then ours."""
    upstream = members(parse(version.upstream_meta)) if version.upstream_meta else {}
    kept = [orjson.dumps(k) + b":" + raw.data for k, raw in upstream.items() if k != OURS]
    return b"{" + b",".join([*kept, orjson.dumps(OURS) + b":" + orjson.dumps(_facts(session, entry, version))]) + b"}"


def _facts(session: Session, entry: CatalogEntry, version: EntryVersion) -> dict[str, Any]:
    findings = session.exec(select(FindingRow).where(FindingRow.version_id == version.id).order_by(col(FindingRow.id)))
    return {
        "source": session.get_one(Source, entry.source_id).name,
        "tier": entry.tier,
        "status": version.status,
        "findings": [{"code": f.code, "severity": f.severity, "path": f.path, "message": f.message} for f in findings],
    }


def _cursor(row: Row) -> str:
    entry, version = row
    return base64.urlsafe_b64encode(orjson.dumps([entry.name, version.id])).decode()


def _place(cursor: str) -> tuple[str, int]:
    try:
        name, number = orjson.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error):
        name, number = None, None
    if not isinstance(name, str) or not isinstance(number, int) or isinstance(number, bool):
        raise QueryInvalid("that cursor is none of ours", remedy="use metadata.nextCursor as it was given")
    return name, number
