"""Models as OCI artifacts: names, formats, tags, deletion, and what survives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harbourmaster.core.digests import DigestMismatch
from registry.oci.descriptor import image_manifest
from runner.errors import GgufInvalid, ModelInUse, ModelInvalid, ModelNotFound, RequestInvalid, TemplateRefused
from runner.store import media, reference
from runner.store.config import human_bytes, human_count
from runner.store.package import Parts, package
from runner.store.store import ModelStore
from tests.runner.gguffile import GgufFile

CREATED = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return GgufFile().write(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("smollm2", "ai/smollm2:latest"),
        ("SmolLM2:135M-Q4", "ai/smollm2:135M-Q4"),
        ("docker.io/ai/smollm2", "ai/smollm2:latest"),
        ("me/model:v1", "me/model:v1"),
        ("localhost:5000/me/model", "localhost:5000/me/model:latest"),
        ("registry.example.org/a/b:c", "registry.example.org/a/b:c"),
    ],
)
def test_names_mean_what_they_mean_to_docker(written: str, meant: str) -> None:
    assert str(reference.parse(written)) == meant


@pytest.mark.parametrize("written", ["", "a b", "../x", "UP:tag:tag", "a/b:", "a@sha256:1", "a/" + "b" * 300])
def test_other_names_are_refused(written: str) -> None:
    with pytest.raises(RequestInvalid):
        reference.parse(written)


@pytest.mark.parametrize("form", ["docker", "cncf"])
def test_a_packaged_model_is_found_by_name_and_id_in_both_formats(
    store: ModelStore, weights: Path, tmp_path: Path, form: str
) -> None:
    (tmp_path / "LICENSE").write_text("do what you want")
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    parts = Parts((weights,), (tmp_path / "LICENSE",), tmp_path / "chat.jinja", format=form, created=CREATED)
    made = package(store, parts, "me/tiny")
    for name in ("me/tiny", "me/tiny:latest", made.id, made.id[7:19]):
        assert store.find(name).id == made.id
    found = store.find("me/tiny")
    assert found.config.architecture == "llama"
    assert found.config.kind == form
    assert store.template(found) == "{{ messages }}"
    assert store.licenses(found) == ["do what you want"]
    assert store.weights(found)[0].read_bytes() == weights.read_bytes()


def test_the_same_parts_give_the_same_id(store: ModelStore, weights: Path, tmp_path: Path) -> None:
    other = ModelStore(tmp_path / "other")
    parts = Parts((weights,), created=CREATED)
    assert package(store, parts, "a/b").id == package(other, parts, "c/d").id


def test_a_manifest_says_what_docker_s_specification_says(store: ModelStore, weights: Path) -> None:
    model = package(store, Parts((weights,), context_size=2048, created=CREATED), "me/tiny")
    body = json.loads(store.layout.read_manifest_bytes(model.id))
    assert body["config"]["mediaType"] == media.DOCKER_CONFIG_V1
    assert body["layers"][0]["mediaType"] == media.DOCKER_GGUF
    config = json.loads(store.layout.read_blob(body["config"]["digest"]))
    assert config["rootfs"] == {"type": "rootfs", "diff_ids": [body["layers"][0]["digest"]]}
    assert config["config"]["context_size"] == 2048
    assert config["descriptor"]["created"] == CREATED


def test_a_modelpack_written_elsewhere_is_read(store: ModelStore, weights: Path) -> None:
    from runner.store.package import import_file

    layer = store.layout.put_blob(weights.read_bytes(), media.MODELPACK_WEIGHT)
    assert import_file(store, weights) == layer.digest
    config = {
        "descriptor": {"createdAt": CREATED, "family": "llama"},
        "modelfs": {"type": "layers", "diffIds": [layer.digest]},
        "config": {"architecture": "transformer", "format": "gguf", "paramSize": "8b"},
    }
    blob = store.layout.put_blob(json.dumps(config).encode(), media.MODELPACK_CONFIG)
    model = store.commit(image_manifest(blob, [layer]), "other/model")
    assert model.config.parameters == "8b"
    assert store.weights(model) == [store.layout.blob_path(layer.digest)]


def test_tags_share_a_model_and_the_last_takes_it_along(store: ModelStore, weights: Path) -> None:
    model = package(store, Parts((weights,)), "me/tiny")
    store.tag("me/tiny", "me/again:v2")
    assert store.remove("me/tiny") == [{"Untagged": "me/tiny:latest"}]
    assert store.find("me/again:v2").id == model.id
    assert store.remove("me/again:v2") == [{"Untagged": "me/again:v2"}, {"Deleted": model.id}]
    assert store.layout.blobs.all() == []
    assert weights.is_file()


def test_an_id_with_two_tags_is_only_removed_by_force(store: ModelStore, weights: Path) -> None:
    model = package(store, Parts((weights,)), "me/tiny")
    store.tag("me/tiny", "me/again")
    with pytest.raises(ModelInUse, match="2 tags"):
        store.remove(model.id)
    store.remove(model.id, force=True)
    assert store.all() == []


def test_weights_that_another_model_uses_stay(store: ModelStore, weights: Path) -> None:
    package(store, Parts((weights,), context_size=512), "me/small")
    package(store, Parts((weights,), context_size=1024), "me/large")
    store.remove("me/small")
    assert store.weights(store.find("me/large"))[0].is_file()


def test_an_imported_file_takes_no_second_place_on_disk(store: ModelStore, weights: Path) -> None:
    model = package(store, Parts((weights,)), "me/tiny")
    blob = store.weights(model)[0]
    assert blob.samefile(weights) or blob.stat().st_blocks <= weights.stat().st_blocks


def test_a_file_that_is_no_model_is_refused_before_anything_is_stored(store: ModelStore, tmp_path: Path) -> None:
    bad = GgufFile(magic=b"nope").write(tmp_path / "bad.gguf")
    with pytest.raises(GgufInvalid):
        package(store, Parts((bad,)), "me/bad")
    assert not store.root.exists() or store.layout.blobs.all() == []


def test_a_template_that_does_not_compile_is_refused(store: ModelStore, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{% if %}")
    with pytest.raises(TemplateRefused):
        package(store, Parts((weights,), template=tmp_path / "t.jinja"), "me/bad")


def test_an_image_is_no_model(store: ModelStore) -> None:
    config = store.layout.put_blob(b"{}", "application/vnd.oci.image.config.v1+json")
    with pytest.raises(ModelInvalid, match="no model"):
        store.commit(image_manifest(config, []), "me/image")


def test_a_damaged_blob_is_found_when_it_is_read(store: ModelStore, weights: Path, tmp_path: Path) -> None:
    model = package(store, Parts((weights,)), "me/tiny")
    blob = store.weights(model)[0]
    blob.unlink()
    blob.write_bytes(b"GGUF and no more")
    with pytest.raises(DigestMismatch):
        store.layout.verify_blob(model.layers["weights"][0].digest)


def test_an_unknown_name_says_how_to_get_it(store: ModelStore) -> None:
    with pytest.raises(ModelNotFound) as refused:
        store.find("nothing")
    assert "hm model pull nothing" in refused.value.remedy


def test_numbers_are_written_for_people() -> None:
    assert human_count(134_515_008) == "134.52M"
    assert human_count(8_000_000_000) == "8B"
    assert human_bytes(98_362_432) == "93.81 MiB"
