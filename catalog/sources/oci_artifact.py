"""A catalog as an OCI artifact, in Docker's media types: one JSON layer behind an empty config.

Source: ``pkg/oci/artifacts.go`` of github.com/docker/mcp-gateway at 2bd20fe8.  Theirs are not signed; a reference by digest at least
says which catalog is meant, and a tag is resolved at each sync.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from catalog.errors import EntryUnreadable, SourceUnreadable
from catalog.records import EntryRecord, UnreadRecord
from catalog.sources.checks import at, mappings
from catalog.sources.docker_catalog import read_tiles
from catalog.sources.documents import MAX_DOCUMENT_BYTES, parse_json
from registry.oci import media
from registry.oci.descriptor import EMPTY_DESCRIPTOR, Descriptor, parse_manifest
from registry.oci.layout import OciLayout
from registry.oci.remote import Remote

ARTIFACT_TYPE = "application/vnd.docker.mcp.catalog.v1+json"
LAYER_TYPE = "application/json"


def read_artifact(reference: str) -> Iterator[EntryRecord | UnreadRecord]:
    """Pull the artifact and read every server in it; raises what the registry or the artifact is refused for."""
    with tempfile.TemporaryDirectory(prefix="hm-catalog-") as place:
        layout = OciLayout(Path(place))
        data = _layer(layout, Remote().pull(reference, layout))
    yield from read_layer(data)


def _layer(layout: OciLayout, digest: str) -> bytes:
    manifest = parse_manifest(layout.read_manifest_bytes(digest))
    if manifest.artifact_type != ARTIFACT_TYPE or len(manifest.layers) != 1:
        raise SourceUnreadable(f"{digest} is no catalog ({manifest.artifact_type})", remedy="name a catalog artifact")
    return layout.read_blob(manifest.layers[0].digest, MAX_DOCUMENT_BYTES)


def read_layer(data: bytes) -> Iterator[EntryRecord | UnreadRecord]:
    try:
        value = parse_json(data)
    except EntryUnreadable as e:
        raise SourceUnreadable(f"the catalog is {e.message}", remedy="ask its publisher") from e
    tiles: dict[str, Any] = {}
    for number, server in enumerate(mappings(at(value, "servers", []))):
        tile = at(server, "snapshot.server")
        name = at(tile, "name")
        if not isinstance(tile, dict) or not isinstance(name, str):
            what = str(at(server, "image") or at(server, "endpoint") or at(server, "source") or number)
            yield UnreadRecord(
                what[:120], "entry.unreadable", "it has no snapshot of the server", "publish it with one"
            )
        elif name in tiles:
            yield UnreadRecord(name[:120], "entry.unreadable", "its name stands twice", "rename one of them")
        else:
            tiles[name] = {k: v for k, v in tile.items() if k != "name"}
    yield from read_tiles(tiles)


def artifact_layer(title: str, tiles: dict[str, dict[str, Any]]) -> bytes:
    """The JSON layer of a catalog artifact."""
    servers = []
    for name, tile in tiles.items():
        kind = "remote" if tile.get("type") == "remote" else "image"
        where = {"endpoint": at(tile, "remote.url")} if kind == "remote" else {"image": tile.get("image", "")}
        servers.append({"type": kind, **where, "snapshot": {"server": {"name": name, **tile}}})
    return orjson.dumps({"title": title, "servers": servers})


def push_artifact(reference: str, title: str, tiles: dict[str, dict[str, Any]]) -> str:
    """Push a catalog artifact; returns its manifest digest."""
    with tempfile.TemporaryDirectory(prefix="hm-catalog-") as place:
        layout = OciLayout(Path(place))
        data = artifact_layer(title, tiles)
        layer = layout.put_blob(data, LAYER_TYPE)
        layout.put_blob(media.EMPTY_BLOB, media.EMPTY)
        manifest = layout.put_manifest(orjson.dumps(_manifest(layer)))
        return Remote().push(layout, manifest.digest, reference)


def _manifest(layer: Descriptor) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": EMPTY_DESCRIPTOR.as_dict(),
        "layers": [layer.as_dict()],
    }
