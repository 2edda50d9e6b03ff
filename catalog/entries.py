"""Finding an entry by its name."""

from __future__ import annotations

from sqlmodel import Session, col, select

from catalog.errors import EntryUnknown
from catalog.models import CatalogEntry, Registry, RegistrySource, Source


def find_entry(session: Session, name: str, registry: str = "default", source: str = "") -> CatalogEntry:
    """The entry that ``registry`` shows under ``name``; ``source`` asks for that source's."""
    query = (
        select(CatalogEntry)
        .join(RegistrySource, col(RegistrySource.source_id) == col(CatalogEntry.source_id))
        .join(Registry, col(Registry.id) == col(RegistrySource.registry_id))
        .join(Source, col(Source.id) == col(CatalogEntry.source_id))
        .where(CatalogEntry.name == name, Registry.name == registry)
        .order_by(col(CatalogEntry.status) == "deleted", col(RegistrySource.position))
    )
    found = session.exec(query.where(Source.name == source) if source else query).first()
    if found is None:
        raise EntryUnknown(f"the catalog has no server {name}", remedy="look for it with: hm catalog search")
    return found
