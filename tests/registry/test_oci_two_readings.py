"""Documents that two readers take for two things: what we look at must be what an engine runs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from harbourmaster.core.digests import sha256
from harbourmaster.core.errors import HarbourError
from registry.errors import ManifestInvalid
from registry.oci import media
from registry.oci.compression import NotReadable, uncompressed, within
from registry.oci.descriptor import parse_manifest, parse_object
from registry.oci.importer import diff_ids

ONE, OTHER = sha256(b"one"), sha256(b"other")


def descriptor(digest: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media.CONFIG, "digest": digest, "size": 3, **more}


def manifest(**more: Any) -> bytes:
    body = {"schemaVersion": 2, "mediaType": media.MANIFEST, "config": descriptor(ONE), "layers": []}
    return json.dumps({**body, **more}).encode()


@pytest.mark.parametrize(
    "document",
    [
        manifest(Config=descriptor(OTHER)),
        manifest(Layers=[descriptor(OTHER)]),
        manifest(**{"layer\u017f": [descriptor(OTHER)]}),
        manifest(config=descriptor(ONE, Digest=OTHER)),
        manifest().replace(b'"layers"', b'"config": {}, "layers"'),
    ],
    ids=["config", "layers", "long s", "digest", "twice"],
)
def test_a_manifest_with_a_field_in_two_spellings_is_refused(document: bytes) -> None:
    """encoding/json of Go takes the last of ``layers``, ``Layers`` and the same with a long s, whichever it is."""
    assert parse_manifest(manifest()).config.digest == ONE
    with pytest.raises(ManifestInvalid):
        parse_manifest(document)


@pytest.mark.parametrize(
    "more",
    [
        {"RootFS": {"diff_ids": [OTHER]}},
        {"rootfs": {"diff_ids": [ONE], "Diff_IDs": [OTHER]}},
        {"config": {}, "Config": {"User": "0"}},
    ],
)
def test_a_config_with_a_field_in_two_spellings_is_refused(more: dict[str, Any]) -> None:
    right = {"rootfs": {"type": "layers", "diff_ids": [ONE]}}
    assert diff_ids(json.dumps(right).encode(), 1) == [ONE]
    with pytest.raises(HarbourError, match="some readers"):
        diff_ids(json.dumps({**right, **more}).encode(), 1)


def test_people_s_own_labels_are_spelt_as_they_like() -> None:
    labels = {"maintainer": "a", "Maintainer": "b", "Config": "c", "layers": "d"}
    config = {"config": {"Labels": labels}, "rootfs": {"diff_ids": [ONE]}}
    assert diff_ids(json.dumps(config).encode(), 1) == [ONE]
    assert parse_manifest(manifest(annotations=labels)).annotations == labels


def test_no_key_stands_twice_anywhere() -> None:
    for text in (b'{"a": 1, "a": 2}', b'{"x": [{"b": {}, "b": {}}]}'):
        with pytest.raises(ManifestInvalid, match="twice"):
            parse_object(text, "it", 1000)


def test_a_layer_that_unpacks_without_end_is_left_early() -> None:
    read = 0
    piece = gzip.compress(bytes(1 << 20))

    def bomb() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield piece

    with pytest.raises(NotReadable, match="unpacks to more than"):
        for _ in within(uncompressed(bomb()), 8 << 20):
            pass
    assert read < 20
    assert b"".join(within(iter([b"ab", b"c"]), 3)) == b"abc"
