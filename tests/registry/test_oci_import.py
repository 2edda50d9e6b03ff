"""Engines' image archives into the layout: every shape that engines save, and the hostile ones."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import uuid
from pathlib import Path

import pytest
from tinyimages import Layer, files, put_image

from harbourmaster.core.digests import DigestMismatch, hex_of, sha256
from harbourmaster.core.errors import HarbourError
from registry.errors import ArchiveInvalid, ImageNotFound
from registry.oci import OciLayout, import_engine_image
from registry.oci import importer as importing
from registry.oci.importer import import_archive


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "oci")


LAYER = files(hello=b"hi" * 5000).tar()
CONFIG = json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha256(LAYER)]}}).encode()


def archive(parts: dict[str, bytes | str], listing: object = None) -> io.BytesIO:
    """A save archive; ``str`` parts are symbolic links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        everything = dict(parts)
        if listing is not None:
            everything["manifest.json"] = json.dumps(listing).encode()
        for name, content in everything.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def listing(*layers: str, config: str = "c.json") -> list[dict[str, object]]:
    return [{"Config": config, "RepoTags": None, "Layers": list(layers)}]


@pytest.mark.parametrize("small", [0, 1 << 20], ids=["as a file", "in memory"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_the_config_is_kept_byte_for_byte_and_layers_are_plain_tars(
    layout: OciLayout, small: int, pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"c.json": CONFIG, "abc/layer.tar": pack(LAYER), "abc/VERSION": b"1.0"}
    if small == 0:
        monkeypatch.setattr(importing, "SMALL_BYTES", len(CONFIG) + 200)
        parts["abc/layer.tar"] = pack(LAYER) if pack is bytes else gzip.compress(LAYER, 0)
    digest = import_archive(archive(parts, listing("abc/layer.tar")), layout)
    manifest = layout.read_manifest(digest)
    assert manifest.config.digest == sha256(CONFIG)
    assert [d.digest for d in manifest.layers] == [sha256(LAYER)]
    assert len(layout.blobs.all()) == 3, "nothing else of the archive stays"
    assert list(layout.blobs.ingest_dir.iterdir()) == []


def test_the_archive_of_newer_engines_with_blobs_by_digest_is_read(layout: OciLayout) -> None:
    config, layer = f"blobs/sha256/{hex_of(sha256(CONFIG))}", f"blobs/sha256/{hex_of(sha256(LAYER))}"
    parts = {"oci-layout": b"{}", "index.json": b"{}", config: CONFIG, layer: LAYER}
    digest = import_archive(archive(parts, listing(layer, config=config)), layout)
    assert layout.read_manifest(digest).layers[0].digest == sha256(LAYER)


def test_our_own_archive_comes_back_as_the_same_image(layout: OciLayout, tmp_path: Path) -> None:
    digest = put_image(layout, files(a=b"1"), files(b=b"2"))
    other = OciLayout(tmp_path / "other")
    again = import_archive(layout.archive(digest, "hm-test:1"), other)
    assert other.read_manifest(again).blobs == layout.read_manifest(digest).blobs


def test_a_layer_that_is_saved_as_a_link_to_its_twin_is_followed_inside_the_archive(layout: OciLayout) -> None:
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [sha256(LAYER)] * 2}}).encode()
    parts = {"c.json": config, "one/layer.tar": LAYER, "two/layer.tar": "../one/layer.tar"}
    digest = import_archive(archive(parts, listing("one/layer.tar", "two/layer.tar")), layout)
    assert [d.digest for d in layout.read_manifest(digest).layers] == [sha256(LAYER)] * 2


def test_a_layer_that_is_not_what_the_config_names_is_refused(layout: OciLayout) -> None:
    parts = {"c.json": CONFIG, "l.tar": files(hello=b"other").tar()}
    with pytest.raises(DigestMismatch):
        import_archive(archive(parts, listing("l.tar")), layout)


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({"c.json": CONFIG, "l.tar": LAYER}, None),
        ({"c.json": CONFIG, "l.tar": LAYER}, []),
        ({"c.json": CONFIG, "l.tar": LAYER}, listing("l.tar") * 2),
        ({"c.json": CONFIG, "l.tar": LAYER}, [{"Config": 1, "Layers": ["l.tar"]}]),
        ({"c.json": CONFIG, "l.tar": LAYER}, listing("../../etc/passwd")),
        ({"c.json": CONFIG, "l.tar": "/etc/passwd"}, listing("l.tar")),
        ({"c.json": CONFIG, "l.tar": "m.tar", "m.tar": "l.tar"}, listing("l.tar")),
        ({"c.json": CONFIG, "l.tar": LAYER}, listing()),
        ({"c.json": b"[]", "l.tar": LAYER}, listing("l.tar")),
        ({"c.json": CONFIG, "l.tar": b"\x28\xb5\x2f\xfd" + LAYER}, listing("l.tar")),
        ({"c.json": CONFIG, "l.tar": gzip.compress(LAYER)[:-9]}, listing("l.tar")),
        ({"c.json": CONFIG, "l.tar": b"\x1f\x8b" + LAYER}, listing("l.tar")),
    ],
    ids=["no listing", "empty listing", "two images", "number for a name", "name outside", "link outside", "circle",
         "fewer layers", "config no object", "zstd", "gzip cut short", "gzip broken"],
)  # fmt: skip
def test_hostile_archives_are_refused_and_leave_no_image(layout: OciLayout, parts, what) -> None:
    with pytest.raises(HarbourError) as caught:
        import_archive(archive(parts, what), layout)
    assert caught.value.code in ("archive.invalid", "manifest.invalid")
    assert layout.tags() == {}
    assert list(layout.blobs.ingest_dir.glob("*")) == []


def test_bytes_that_are_no_tar_are_refused(layout: OciLayout) -> None:
    for data in (b"", b"no tar at all" * 100, archive({"c.json": CONFIG}).getvalue()[:700]):
        with pytest.raises(ArchiveInvalid):
            import_archive(io.BytesIO(data), layout)


def test_a_header_that_claims_gigabytes_is_refused_before_it_is_read(layout: OciLayout) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 4 << 30
    with pytest.raises(ArchiveInvalid):
        import_archive(io.BytesIO(info.tobuf() + bytes(4096)), layout)


@pytest.mark.engine
def test_an_engines_image_goes_through_the_layout_and_keeps_its_id(layout: OciLayout) -> None:
    import docker

    client = docker.from_env()
    tag = f"hm-test-import:{uuid.uuid4().hex[:12]}"
    client.api.import_image_from_data(Layer([("hello", uuid.uuid4().bytes)]).tar(), *tag.split(":"))
    try:
        image_id = client.images.get(tag).id
        digest = import_engine_image(client, tag, layout)
        assert layout.read_manifest(digest).config.digest == image_id
        client.images.remove(tag)
        client.images.load(layout.archive(digest, tag))
        assert client.images.get(tag).id == image_id
        with pytest.raises(ImageNotFound):
            import_engine_image(client, "hm-test-nobody:1", layout)
    finally:
        client.images.remove(tag, force=True)
        client.close()
