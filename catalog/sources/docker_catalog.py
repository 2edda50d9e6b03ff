"""Docker's catalog: the YAML file (v2 and v3) and the JSON of its OCI artifact, read and written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import yaml

from catalog.errors import EntryUnreadable, SourceUnreadable
from catalog.records import EntryRecord, Finding, UnreadRecord
from catalog.sources import checks, serverfile
from catalog.sources.checks import at
from catalog.sources.documents import MAX_DOCUMENT_BYTES, parse_yaml, read_bounded
from catalog.sources.tiles import TILE, submission_of, tile_path
from catalog.text import one_line
from harbourmaster.core.digests import sha256
from registry.docker_shape import unknown_keys

MEDIA_TYPE = "application/vnd.docker.mcp.catalog.tile+json"
READER = 1
MAX_SERVERS = 20_000
CATALOG_VERSION = 3

Offer = EntryRecord | UnreadRecord


def read_catalog_file(path: Path) -> Iterator[Offer]:
    """Every server of a catalog file; raises ``SourceUnreadable`` when it is none."""
    try:
        value = parse_yaml(read_bounded(path, MAX_DOCUMENT_BYTES), lines=False).value
    except (EntryUnreadable, OSError) as e:
        raise SourceUnreadable(f"{path}: {e}", remedy="name a catalog file of Docker's form") from e
    if not isinstance(value, dict) or not isinstance(value.get("registry"), dict):
        raise SourceUnreadable(f"{path} has no mapping called registry", remedy="name a catalog file of Docker's form")
    yield from read_tiles(value["registry"])


def read_tiles(tiles: dict[str, Any]) -> Iterator[Offer]:
    for number, (name, tile) in enumerate(tiles.items()):
        if number >= MAX_SERVERS:
            yield UnreadRecord(
                "", "limit.reached", f"only the first {MAX_SERVERS} servers were read", "split the catalog"
            )
            return
        try:
            yield read_tile(name, tile)
        except EntryUnreadable as e:
            yield UnreadRecord(one_line(name, 120), e.code, e.message, e.remedy)


def read_tile(name: str, tile: Any) -> EntryRecord:
    """One tile as a record; its document is the tile as JSON, keys in their order."""
    if not isinstance(tile, dict):
        raise EntryUnreadable("a server is a mapping of keys", remedy="start with: title: My server")
    value = submission_of(name, tile)
    document = orjson.dumps(tile, option=orjson.OPT_NON_STR_KEYS)
    record = serverfile.record_of(value, document, [*checks.image_pins(value), *checks.safety(value)])
    findings = [dataclasses.replace(f, path=tile_path(f.path)) for f in record.findings]
    digest = sha256(f"{READER}\0{serverfile.READER}\0{name}\0".encode() + document)
    return dataclasses.replace(
        record,
        version=sha256(document)[7:19],
        media_type=MEDIA_TYPE,
        digest=digest,
        licence=one_line(at(tile, "metadata.license", ""), 120),
        published_at=_date(at(tile, "dateAdded")),
        findings=(*findings, *_of_tiles_only(value, tile)),
    )


def _of_tiles_only(value: dict[str, Any], tile: dict[str, Any]) -> Iterator[Finding]:
    for path in unknown_keys(tile, TILE):
        yield _unknown(path)
    if tile.get("extraHosts"):
        message = "it would decide itself which address a host name means"
        yield Finding("network.extra_hosts", "error", "extraHosts", message, "remove it")
    if value["type"] == "server" and not at(value, "image"):
        yield Finding("image.missing", "error", "image", "a server of this type names an image", "add image")


def _unknown(path: str) -> Finding:
    return Finding(
        "key.unknown", "warning", path, "no reader knows this key: it does nothing", "remove it or correct its name"
    )


def _date(value: Any) -> str:
    text = one_line(value, 40)
    return text if len(text) >= 19 and text[:4].isdigit() and "T" in text else ""


def catalog_yaml(name: str, title: str, tiles: Iterable[tuple[str, dict[str, Any]]]) -> bytes:
    """A catalog file that Docker's gateway reads."""
    value = {"version": CATALOG_VERSION, "name": name, "displayName": title, "registry": dict(tiles)}
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text.encode()


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    def ignore_aliases(self, _data: Any) -> bool:
        return True
