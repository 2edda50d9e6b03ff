"""The OCI layout on disk: whole or absent, hashed in and out, readable by tools we did not write."""

from __future__ import annotations

import io
import json
import multiprocessing
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from tinyimages import files, flip_byte, put_image

from harbourmaster.core.digests import DigestMismatch, sha256
from registry.errors import BlobMissing, ImageNotFound, LayoutInvalid, ManifestInvalid, TooLarge
from registry.oci import OciLayout, media
from registry.oci.descriptor import parse_manifest


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "oci")


def test_a_blob_comes_back_as_it_went_in_whatever_the_source(layout: OciLayout) -> None:
    for source in (b"abc", io.BytesIO(b"abc"), iter([b"a", b"bc"])):
        stored = layout.put_blob(source, "text/plain")
        assert (stored.digest, stored.size) == (sha256(b"abc"), 3)
    assert layout.read_blob(sha256(b"abc")) == b"abc"


def test_a_source_that_breaks_off_leaves_nothing_behind(layout: OciLayout) -> None:
    def broken():
        yield b"half"
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        layout.put_blob(broken())
    assert [
        p
        for p in layout.path.rglob("*")
        if p.is_file() and p.stat().st_size and p.name not in ("index.json", "oci-layout")
    ] == []


def test_bytes_that_are_not_the_announced_digest_are_not_kept(layout: OciLayout) -> None:
    with pytest.raises(DigestMismatch):
        layout.put_blob(b"evil", digest=sha256(b"good"))
    assert layout.blobs.all() == []


def test_a_source_over_the_limit_is_refused_and_not_kept(layout: OciLayout) -> None:
    with pytest.raises(TooLarge):
        layout.put_blob(iter([b"x" * 100] * 10), limit=500)
    assert layout.blobs.all() == []
    assert list(layout.blobs.ingest_dir.iterdir()) == []


def test_a_damaged_blob_is_found_when_read_and_replaced_when_put_again(layout: OciLayout) -> None:
    digest = layout.put_blob(b"precious").digest
    flip_byte(layout.blob_path(digest))
    with pytest.raises(DigestMismatch):
        layout.verify_blob(digest)
    with pytest.raises(DigestMismatch):
        layout.read_blob(digest)
    layout.put_blob(b"precious")
    assert layout.read_blob(digest) == b"precious"


def test_missing_blobs_and_names_have_their_own_errors(layout: OciLayout) -> None:
    with pytest.raises(BlobMissing):
        layout.verify_blob(sha256(b"never"))
    for ref in ("nobody:1", sha256(b"never")):
        with pytest.raises(ImageNotFound):
            layout.resolve(ref)


def test_a_name_points_at_one_image_at_a_time(layout: OciLayout) -> None:
    one, two = put_image(layout, files(a=b"1"), tag="x:1"), put_image(layout, files(a=b"2"))
    assert layout.resolve("x:1") == one
    layout.tag("x:1", two)
    assert layout.tags() == {"x:1": two}
    assert layout.untag("x:1")
    assert not layout.untag("x:1")


def test_a_manifest_whose_bytes_changed_is_refused(layout: OciLayout) -> None:
    digest = put_image(layout, files(a=b"1"))
    flip_byte(layout.blob_path(digest), 40)
    with pytest.raises(DigestMismatch):
        layout.read_manifest(digest)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"schemaVersion":2}',
        b'{"schemaVersion":2,"config":{"digest":"sha256:x","size":1},"layers":[]}',
        b'{"schemaVersion":2,"config":{"digest":"sha512:' + b"a" * 128 + b'","size":1},"layers":[]}',
        json.dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": []}).encode(),
        json.dumps({"schemaVersion": 2, "config": {"digest": sha256(b""), "size": True}, "layers": []}).encode(),
        json.dumps({"schemaVersion": 2, "config": {"digest": sha256(b""), "size": 0}, "layers": [[]]}).encode(),
        b"[" * 100_000,
    ],
)
def test_what_is_no_image_manifest_is_refused_by_type(data: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        parse_manifest(data)


def test_a_manifest_over_the_distribution_specs_size_is_refused() -> None:
    with pytest.raises(TooLarge):
        parse_manifest(b" " * (media.MAX_MANIFEST_BYTES + 1))


def test_referrers_are_those_whose_own_subject_is_the_image(layout: OciLayout) -> None:
    one, two = put_image(layout, files(a=b"1")), put_image(layout, files(a=b"2"))
    first = layout.add_referrer(one, b'{"b":1}', annotations={media.PREDICATE_TYPE_ANNOTATION: "x"})
    layout.add_referrer(two, b'{"b":2}')
    other = layout.add_referrer(one, b"text", artifact_type="text/plain")
    assert [r.digest for r in layout.referrers(one)] == [first.digest, other.digest]
    assert [r.digest for r in layout.referrers(one, media.SIGSTORE_BUNDLE)] == [first.digest]
    (layer,) = layout.read_manifest(first.digest).layers
    assert layout.read_blob(layer.digest) == b'{"b":1}'


def test_the_index_cannot_attach_a_referrer_to_another_image(layout: OciLayout) -> None:
    one, two = put_image(layout, files(a=b"1")), put_image(layout, files(a=b"2"))
    layout.add_referrer(one, b"papers")
    index = layout.path / "index.json"
    index.write_text(index.read_text().replace(one, two))
    assert layout.referrers(two) == []


def test_attaching_the_same_bytes_again_changes_nothing(layout: OciLayout) -> None:
    image = put_image(layout, files(a=b"1"))
    assert layout.add_referrer(image, b"p") == layout.add_referrer(image, b"p")
    assert len(layout.referrers(image)) == 1


def test_a_referrer_written_by_another_tool_is_found_without_our_hint(layout: OciLayout) -> None:
    image = put_image(layout, files(a=b"1"))
    layout.add_referrer(image, b"papers")
    index = layout.path / "index.json"
    body = json.loads(index.read_text())
    for entry in body["manifests"]:
        entry.pop("annotations", None)
    index.write_text(json.dumps(body))
    assert len(layout.referrers(image)) == 1


def test_garbage_collection_keeps_what_is_named_and_its_referrers_and_what_is_young(layout: OciLayout) -> None:
    kept, gone = put_image(layout, files(a=b"1"), tag="kept:1"), put_image(layout, files(a=b"2"), tag="gone:1")
    papers = layout.add_referrer(kept, b"papers of kept")
    layout.add_referrer(gone, b"papers of gone")
    layout.untag("gone:1")
    before = set(layout.blobs.all())
    layout.gc()
    assert set(layout.blobs.all()) == before, "young blobs may belong to an image that is being written"
    assert layout.gc(grace_s=-5) > 0
    assert layout.referrers(kept) == [papers]
    for blob in layout.read_manifest(kept).blobs:
        layout.verify_blob(blob.digest)
    with pytest.raises(ImageNotFound):
        layout.resolve(gone)
    assert sha256(b"papers of gone") not in layout.blobs.all()


def test_garbage_collection_removes_a_crashed_writers_rest_but_not_a_living_ones(layout: OciLayout) -> None:
    put_image(layout, files(a=b"1"))
    dead = layout.blobs.ingest_dir / "in-dead"
    dead.write_bytes(b"half")
    with layout.blobs.ingest() as living:
        living.write(b"half")
        layout.gc()
        assert not dead.exists()
        assert layout.read_blob(living.commit()) == b"half"


def test_an_index_that_is_no_index_is_refused_with_its_file_named(layout: OciLayout) -> None:
    put_image(layout, files(a=b"1"), tag="x:1")
    for text in ("", "[]", '{"schemaVersion":2,"manifests":[{"digest":"../../etc/passwd","size":1}]}'):
        (layout.path / "index.json").write_text(text)
        with pytest.raises(LayoutInvalid, match=r"index\.json"):
            layout.resolve("x:1")


def _tag_many(path: Path, who: int) -> None:
    layout = OciLayout(path)
    for i in range(20):
        layout.tag(f"p{who}:{i}", layout.resolve("base:1"))


def test_processes_that_tag_at_the_same_time_lose_no_tag(layout: OciLayout) -> None:
    put_image(layout, files(a=b"1"), tag="base:1")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_tag_many, args=(layout.path, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(layout.tags()) == 61


def test_the_archive_has_the_length_it_announces_and_both_formats(layout: OciLayout) -> None:
    digest = put_image(layout, files(hello=b"hi" * 4000), files(b=b"2"))
    stream = layout.archive(digest, "hm-test:1")
    data = stream.read()
    assert len(data) == len(stream)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        (image,) = json.load(tar.extractfile("manifest.json"))
        assert image["RepoTags"] == ["hm-test:1"]
        (entry,) = json.load(tar.extractfile("index.json"))["manifests"]
        assert entry["digest"] == digest
        for name in [image["Config"], *image["Layers"]]:
            assert sha256(tar.extractfile(name).read()) == "sha256:" + name.rpartition("/")[2]


def test_an_archive_of_a_damaged_layer_breaks_off_instead_of_ending(layout: OciLayout) -> None:
    digest = put_image(layout, files(hello=b"hi" * 4000))
    flip_byte(layout.blob_path(layout.read_manifest(digest).layers[0].digest))
    with pytest.raises(DigestMismatch):
        layout.archive(digest).read()


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_reads_the_layout_and_the_archive_as_the_same_image(layout: OciLayout, tmp_path: Path) -> None:
    digest = put_image(layout, files(hello=b"hi"), tag="hm-test:1")
    archive = tmp_path / "image.tar"
    archive.write_bytes(layout.archive(digest, "hm-test:1").read())
    for source in (f"oci:{layout.path}:hm-test:1", f"oci-archive:{archive}"):
        raw = subprocess.run(["skopeo", "inspect", "--raw", source], capture_output=True, check=True).stdout
        assert sha256(raw) == digest
    config = subprocess.run(
        ["skopeo", "inspect", "--config", "--raw", f"docker-archive:{archive}"], capture_output=True, check=True
    ).stdout
    assert sha256(config) == layout.read_manifest(digest).config.digest


def test_another_tools_broken_entry_hides_no_papers_of_ours(layout: OciLayout) -> None:
    image = put_image(layout, files(a=b"1"))
    papers = layout.add_referrer(image, b"papers")
    index = layout.path / "index.json"
    body = json.loads(index.read_text())
    body["manifests"].insert(0, {"mediaType": media.MANIFEST, "digest": sha256(b"lost"), "size": 4})
    index.write_text(json.dumps(body))
    assert layout.referrers(image) == [papers]


def test_a_paper_of_ours_that_was_damaged_is_an_error_and_not_overlooked(layout: OciLayout) -> None:
    image = put_image(layout, files(a=b"1"))
    flip_byte(layout.blob_path(layout.add_referrer(image, b"papers").digest), 20)
    with pytest.raises(DigestMismatch):
        layout.referrers(image)
