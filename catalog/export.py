"""The catalog in Docker's form, so that their gateway can use it.  What the form cannot say is left out by name, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from sqlmodel import Session, col, select

from catalog.models import CatalogEntry, EntryVersion, Image, Registry, RegistrySource
from catalog.sources import docker_catalog, ours, serverfile, serverjson
from catalog.sources.documents import parse_yaml
from catalog.sources.tiles import tile_of
from harbourmaster.core.errors import HarbourError
from registry.entry import ENTRY_FILE
from registry.schema import parse_entry
from registry.tile import tile_of_entry


@dataclass
class Exported:
    tiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def export_tiles(session: Session, registry: str = "default", *, held: bool = False) -> Exported:
    """Every active entry of ``registry`` as a tile; ``held`` takes those too that cannot run safely as written."""
    query = (
        select(CatalogEntry, EntryVersion)
        .join(EntryVersion, (col(EntryVersion.entry_id) == col(CatalogEntry.id)) & col(EntryVersion.is_latest))
        .join(RegistrySource, col(RegistrySource.source_id) == col(CatalogEntry.source_id))
        .join(Registry, col(Registry.id) == col(RegistrySource.registry_id))
        .where(Registry.name == registry, CatalogEntry.status != "deleted")
        .order_by(col(RegistrySource.position), col(CatalogEntry.id))
    )
    exported = Exported()
    for entry, version in session.exec(query):
        if entry.name in exported.tiles or entry.name in exported.left_out:
            continue
        if not entry.runnable and not held:
            exported.left_out[entry.name] = "cannot run safely as written (see hm catalog show); --held takes it along"
        elif isinstance(tile := _tile(session, version), str):
            exported.left_out[entry.name] = tile
        else:
            exported.tiles[entry.name] = tile
    return exported


def _tile(session: Session, version: EntryVersion) -> dict[str, Any] | str:
    """The tile, or why there is none."""
    if version.media_type == docker_catalog.MEDIA_TYPE:
        tile: dict[str, Any] = orjson.loads(version.document)
        return tile
    if version.media_type == serverfile.MEDIA_TYPE:
        return tile_of(parse_yaml(version.document, lines=False).value)
    if version.media_type == serverjson.MEDIA_TYPE:
        return _from_server_json(orjson.loads(version.document))
    if version.media_type == ours.MEDIA_TYPE:
        return _from_ours(session, version)
    return f"no conversion from {version.media_type}"


def _from_ours(session: Session, version: EntryVersion) -> dict[str, Any] | str:
    """Entries of ours whose image lies in a registry, or is its publisher's, or that run elsewhere."""
    try:
        entry = parse_entry(Path(ENTRY_FILE), version.document)
    except HarbourError as e:
        return e.message
    references = session.exec(select(Image.reference).where(Image.version_id == version.id)).all()
    image = next((r for r in references if "@" in r), entry.image or "")
    if entry.type == "server" and not image:
        return "its image is in the local layout only: publish it first (hm registry publish)"
    return tile_of_entry(entry, image)


def _from_server_json(server: dict[str, Any]) -> dict[str, Any] | str:
    """Remotes without variables can be said in a tile; packages need an image first."""
    remotes = server.get("remotes") or []
    if server.get("packages") or not remotes:
        return "it is a package, not an image"
    first = remotes[0]
    if "{" in str(first.get("url")) or first.get("variables") or first.get("headers"):
        return "its address or headers have variables, which the form cannot say"
    return {
        "title": server.get("title") or server["name"],
        "description": server.get("description", ""),
        "type": "remote",
        "remote": {"url": first["url"], "transport_type": first.get("type")},
    }
