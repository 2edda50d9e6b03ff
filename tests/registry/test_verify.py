"""The chain without an engine: what it reports, and what each link refuses."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from papered import ALL, Harbour, attach, harbour, sign
from tinyimages import Layer, files

from harbourmaster.core.digests import DigestMismatch, hex_of, sha256
from policies.bundles import sign_statement
from policies.errors import AdmissionDenied, UntrustedKey, WrongSubject
from policies.keys import SigningKey
from policies.statements import LISTING, PROVENANCE, SBOM, SIGNATURE, statement
from policies.trust import Requirement, TrustPolicy, TrustRule
from registry.errors import ImageNotInEngine, ManifestInvalid, SbomDiffers, SignatureMissing
from registry.oci import media
from registry.oci.descriptor import Descriptor, image_manifest
from registry.sbom import sbom_of
from registry.verify import Verifier


@pytest.fixture
def place(home: Path) -> Harbour:
    return harbour(home)


class FixedEngine:
    """An engine that holds exactly these image IDs."""

    def __init__(self, *held: str) -> None:
        self.held, self.loads = set(held), 0

    def image_id(self, ref: str) -> str | None:
        return ref if ref in self.held else None

    def load(self, archive: Any) -> list[str]:
        self.loads += 1
        return []


def names(verifier: Verifier, place: Harbour, **more: Any) -> list[str]:
    return [link.name for link in verifier.verify(place.target(), **more).links]


def test_the_links_are_reported_in_order_with_digests_and_who_decided(place: Harbour) -> None:
    digest = place.papered()
    evidence = place.verifier().verify(place.target(), deep=True)
    assert [link.name for link in evidence.links] == [
        "manifest", "config", "layer 1", "layer 2", "signature", "SBOM", "provenance", "tool listing", "SBOM, deep",
        "admission",
    ]  # fmt: skip
    manifest = place.layout.read_manifest(digest)
    assert [link.digest for link in evidence.links[:4]] == [digest, *(b.digest for b in manifest.blobs)]
    assert evidence.links[4].by == "trust rule 'local builds'"
    assert evidence.links[-1].by == "built.admit"
    assert evidence.signature
    assert evidence.signature.key_id == place.key.key_id
    assert evidence.sbom
    assert evidence.sbom.predicate["metadata"]["component"]["version"] == digest


def test_every_blob_that_was_read_is_named_for_the_cache(place: Harbour) -> None:
    digest = place.papered()
    blobs = set(place.verifier().check(place.target()).blobs)
    papers = {r.digest for r in place.layout.referrers(digest)}
    bundles = {layer.digest for r in papers for layer in place.layout.read_manifest(r).layers}
    assert {digest, *(b.digest for b in place.layout.read_manifest(digest).blobs), *papers, *bundles} <= blobs


def test_a_layer_that_the_config_does_not_name_is_refused_even_when_the_manifest_does(place: Harbour) -> None:
    digest = place.image()
    config = place.layout.read_manifest(digest).config
    layers = [place.layout.put_blob(files(evil=bytes([n])).tar(), media.LAYER_TAR) for n in range(2)]
    forged = place.layout.put_manifest(image_manifest(config, layers), tag="tiny:1").digest
    sign(place.layout, forged, place.key)
    with pytest.raises(DigestMismatch, match="as the config names it"):
        place.verifier().verify(place.target())


def test_sizes_in_the_manifest_must_be_true(place: Harbour) -> None:
    digest = place.image()
    manifest = place.layout.read_manifest(digest)
    config = Descriptor(manifest.config.media_type, manifest.config.digest, manifest.config.size + 1)
    forged = place.layout.put_manifest(image_manifest(config, list(manifest.layers)), tag="tiny:1").digest
    sign(place.layout, forged, place.key)
    with pytest.raises(ManifestInvalid, match="bytes, not the"):
        place.verifier().verify(place.target())


def gzipped(place: Harbour, layer: Layer) -> str:
    tar = layer.tar()
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [sha256(tar)]}}).encode()
    stored = [place.layout.put_blob(gzip.compress(tar), media.LAYER_TAR_GZIP)]
    return place.layout.put_manifest(
        image_manifest(place.layout.put_blob(config, media.CONFIG), stored), tag="tiny:1"
    ).digest


def test_an_image_with_compressed_layers_is_verified_by_what_they_unpack_to(place: Harbour) -> None:
    digest = gzipped(place, files(hello=b"hi"))
    sign(place.layout, digest, place.key)
    assert "layer 1" in names(place.verifier(), place, deep=True)


def test_papers_that_others_attached_beside_ours_do_no_harm(place: Harbour) -> None:
    digest = place.image()
    sign(place.layout, digest, SigningKey.generate())
    attach(place.layout, digest, SBOM, b"not even JSON")
    sign(place.layout, digest, place.key)
    assert place.verifier().verify(place.target()).sbom is not None


def test_deep_refuses_an_sbom_that_leaves_something_out(place: Harbour) -> None:
    digest = place.image()
    sign(place.layout, digest, place.key, tuple(t for t in ALL if t != SBOM))
    body = sbom_of(place.layout, digest)
    body["components"] = [{"type": "library", "name": "invented", "bom-ref": "x"}]
    attach(place.layout, digest, SBOM, sign_statement(statement("t", digest, SBOM, body), place.key))
    place.verifier().verify(place.target())
    with pytest.raises(SbomDiffers):
        place.verifier().verify(place.target(), deep=True)


@pytest.mark.parametrize("which", ["config", "manifest"])
def test_the_engines_id_may_be_the_config_digest_or_the_manifest_digest(place: Harbour, which: str) -> None:
    digest = place.papered()
    held = digest if which == "manifest" else place.layout.read_manifest(digest).config.digest
    place.engine = FixedEngine(held)
    assert place.verifier().verify(place.target()).image_id == held


def test_an_engine_with_another_image_under_that_id_counts_for_nothing(place: Harbour) -> None:
    place.papered()

    class Lying(FixedEngine):
        def image_id(self, ref: str) -> str | None:
            return sha256(b"another image")

    place.engine = Lying()
    with pytest.raises(ImageNotInEngine):
        place.verifier().verify(place.target())


def test_nothing_is_loaded_into_the_engine_before_the_papers_stand(place: Harbour) -> None:
    digest = place.image()
    sign(place.layout, digest, SigningKey.generate())
    place.engine = engine = FixedEngine()
    with pytest.raises(UntrustedKey):
        place.verifier().check(place.target(), load=True)
    assert engine.loads == 0


def test_other_tiers_may_lack_papers_but_cedar_decides(place: Harbour) -> None:
    digest = place.image()
    place.trust = TrustPolicy.of(
        (TrustRule("any", ("*",), Requirement("mine", keys=(place.key.verifying,))),), "a test"
    )
    community = place.target(tier="community")
    with pytest.raises(AdmissionDenied) as denied:
        place.verifier().verify(community)
    assert "community.sbom-required" in denied.value.details["policies"]
    sign(place.layout, digest, place.key, (SIGNATURE, SBOM))
    assert place.verifier().verify(community).provenance is None
    with pytest.raises(Exception, match="provenance"):
        place.verifier().verify(place.target())


# -- cosign's older layout


def cosign(place: Harbour, digest: str, *, about: str = "", key: SigningKey | None = None) -> None:
    payload = json.dumps(
        {
            "critical": {
                "identity": {"docker-reference": "tiny"},
                "image": {"docker-manifest-digest": about or digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    ).encode()
    signature = base64.b64encode((key or place.key).sign(payload)).decode()
    layer = place.layout.put_blob(payload, media.COSIGN_PAYLOAD)
    layer = Descriptor(layer.media_type, layer.digest, layer.size, "", {media.COSIGN_SIGNATURE_ANNOTATION: signature})
    config = place.layout.put_blob(b"{}", media.CONFIG)
    place.layout.put_manifest(image_manifest(config, [layer]), tag=f"sha256-{hex_of(digest)}.sig")


def test_cosigns_older_layout_is_read(place: Harbour) -> None:
    digest = place.image()
    sign(place.layout, digest, place.key, (SBOM, PROVENANCE, LISTING))
    with pytest.raises(SignatureMissing):
        place.verifier().verify(place.target())
    cosign(place, digest)
    signature = place.verifier().verify(place.target()).signature
    assert signature
    assert (signature.kind, signature.key_id) == ("cosign", place.key.key_id)


def test_cosigns_older_layout_is_refused_by_the_same_rules(place: Harbour) -> None:
    digest = place.image()
    sign(place.layout, digest, place.key, (SBOM, PROVENANCE, LISTING))
    cosign(place, digest, key=SigningKey.generate())
    with pytest.raises(UntrustedKey):
        place.verifier().verify(place.target())
    cosign(place, digest, about=sha256(b"another"))
    with pytest.raises(WrongSubject):
        place.verifier().verify(place.target())
