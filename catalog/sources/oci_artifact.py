"""A catalog as an OCI artifact: what ``registry.artifact`` pulls and verifies, as records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.errors import SourceUnreadable
from catalog.records import EntryRecord, ImageRecord, UnreadRecord
from catalog.sources import ours
from catalog.sources.checks import at
from catalog.sources.docker_catalog import read_tiles
from catalog.sources.images import image_of
from harbourmaster.core.digests import sha256
from harbourmaster.core.errors import HarbourError
from policies.keys import SigningKey
from policies.trust import TrustPolicy
from registry import artifact
from registry.entry import ENTRY_FILE
from registry.errors import CatalogInvalid, CatalogRolledBack
from registry.schema import parse_entry

ARTIFACT_TYPE = artifact.ARTIFACT_TYPE
READER = 1
Offer = EntryRecord | UnreadRecord


def read_artifact(reference: str, trust: TrustPolicy, *, newest: str = "") -> tuple[list[Offer], str]:
    """Pull, verify and read; raises what the registry, the artifact or its signature is refused for.

    ``newest``: when the catalog was made that was read last; an older one is refused.  Returns that of this one too.
    """
    pulled = artifact.pull(reference, trust)
    offers, created = list(read_layer(pulled.data)), _created(pulled.data)
    if created < newest:
        raise CatalogRolledBack(
            f"{reference} was made {created or 'at no known time'}, the one before it {newest}",
            remedy="the registry serves an old copy: ask its operator, or add the source anew to accept it",
        )
    return offers, created


def _created(data: bytes) -> str:
    return artifact.parse(data)[1]


def read_layer(data: bytes) -> Iterator[Offer]:
    try:
        items, _ = artifact.parse(data)
    except CatalogInvalid as e:
        raise SourceUnreadable(e.message, remedy=e.remedy) from e
    tiles: dict[str, Any] = {}
    seen: set[str] = set()
    for number, item in enumerate(items):
        name, said = artifact.name_of(item), item.get(artifact.OURS)
        text = said.get("entry") if isinstance(said, dict) else None
        if not name:
            what = str(at(item, "image") or at(item, "endpoint") or at(item, "source") or number)
            yield UnreadRecord(
                what[:120], "entry.unreadable", "it has no snapshot of the server", "publish it with one"
            )
        elif name in seen:
            yield UnreadRecord(name[:120], "entry.unreadable", "its name stands twice", "rename one of them")
        elif isinstance(text, str):
            yield _own(name, str(at(item, "image", "")), text.encode())
        else:
            tiles[name] = {k: v for k, v in item["snapshot"]["server"].items() if k != "name"}
        seen.add(name)
    yield from read_tiles(tiles)


def _own(name: str, reference: str, document: bytes) -> Offer:
    """An entry of our form; its image is where the catalog says, by digest."""
    try:
        entry = parse_entry(Path(name) / ENTRY_FILE, document)
    except HarbourError as e:
        return UnreadRecord(name[:120], e.code, e.message, e.remedy)
    image = image_of(reference)
    if entry.name != name or (entry.type == "server" and (image is None or not image.digest)):
        why = f"its entry is of {entry.name}" if entry.name != name else "its image is not named by digest"
        return UnreadRecord(name[:120], "entry.unreadable", why, "ask its publisher to publish it anew")
    record = ours.record_of(entry, document, lambda _: image.digest if image else "")
    images = (ImageRecord(reference, image.digest),) if image else ()
    return dataclasses.replace(record, images=images, digest=sha256(f"{READER}\0{reference}\0".encode() + document))


def artifact_layer(title: str, tiles: dict[str, dict[str, Any]]) -> bytes:
    """The JSON layer of a catalog artifact."""
    return artifact.layer(title, [artifact.item(n, str(t.get("image", "")), t) for n, t in tiles.items()])


def push_artifact(reference: str, title: str, tiles: dict[str, dict[str, Any]], key: SigningKey | None = None) -> str:
    """Push a catalog artifact, signed where there is a key; returns its manifest digest."""
    return artifact.push(reference, title, artifact_layer(title, tiles), key)
