"""Models as tar files: ours, Docker's, and ones that lie."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from harbourmaster.core.digests import DigestMismatch
from harbourmaster.core.errors import HarbourError
from runner.errors import ModelInvalid
from runner.store.archive import export, load
from runner.store.package import Parts, package, repackage
from runner.store.store import Model, ModelStore
from tests.runner.conftest import Server
from tests.runner.gguffile import GgufFile


@pytest.fixture
def made(tmp_path: Path) -> tuple[ModelStore, Model]:
    file = GgufFile()
    file.data += os.urandom(1 << 20)
    licence = tmp_path / "LICENSE"
    licence.write_text("free")
    store = ModelStore(tmp_path / "models")
    return store, package(store, Parts((file.write(tmp_path / "m.gguf"),), (licence,)), "me/tiny:v1")


@pytest.fixture
def other(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "other")


def test_a_model_goes_through_a_file_with_the_same_id_and_name(
    made: tuple[ModelStore, Model], other: ModelStore
) -> None:
    store, model = made
    stream = export(store, "me/tiny:v1")
    data = stream.read()
    assert len(data) == len(stream)
    loaded = load(other, io.BytesIO(data))
    assert (loaded.id, loaded.tags) == (model.id, ("me/tiny:v1",))
    assert other.weights(loaded)[0].read_bytes() == store.weights(model)[0].read_bytes()
    assert load(other, io.BytesIO(data), "me/second").tags == ("me/second:latest", "me/tiny:v1")


def test_an_archive_as_docker_writes_it_is_read(made: tuple[ModelStore, Model], other: ModelStore) -> None:
    store, model = made
    loaded = load(other, io.BytesIO(dockers(store, model)))
    assert loaded.id == model.id
    assert loaded.name == f"loaded/model:{model.id[7:19]}"


def test_skopeo_reads_what_is_exported(made: tuple[ModelStore, Model], tmp_path: Path) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed (Debian: apt-get install skopeo)")
    store, model = made
    file = tmp_path / "tiny.tar"
    file.write_bytes(export(store, "me/tiny:v1").read())
    shown = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci-archive:{file}:me/tiny:v1"], capture_output=True, check=True
    ).stdout
    assert f"sha256:{hashlib.sha256(shown).hexdigest()}" == model.id


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda d: d.pop("manifest.json"), ModelInvalid),
        (lambda d: d.update({"manifest.json": b"{}"}), HarbourError),
        (lambda d: d.update({"manifest.json": b"[" * 100_000}), HarbourError),
        (lambda d: d.pop(next(n for n in d if n.startswith("blobs/"))), ModelInvalid),
        (lambda d: d.update({f"blobs/sha256/{'0' * 64}": b"not that"}), DigestMismatch),
        (lambda d: d.update({"index.json": b"x" * (9 << 20)}), ModelInvalid),
    ],
)
def test_an_archive_that_lies_leaves_no_model(
    made: tuple[ModelStore, Model], other: ModelStore, change: object, error: type[HarbourError]
) -> None:
    members = members_of(dockers(*made))
    change(members)  # type: ignore[operator]
    with pytest.raises(error):
        load(other, io.BytesIO(tar_of(members)))
    assert other.all() == []


def test_a_torn_archive_and_noise_leave_no_model(made: tuple[ModelStore, Model], other: ModelStore) -> None:
    for data in (export(made[0], "me/tiny:v1").read()[:700_000], b"noise" * 1000, b""):
        with pytest.raises(HarbourError):
            load(other, io.BytesIO(data))
    assert other.all() == []


def test_names_that_lead_out_of_the_store_and_links_are_ignored(
    made: tuple[ModelStore, Model], other: ModelStore, tmp_path: Path
) -> None:
    members = {"../evil": b"x", "blobs/sha256/../../evil": b"x", "/evil": b"x", **members_of(dockers(*made))}
    buffer = io.BytesIO(tar_of(members))
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        link = tarfile.TarInfo("blobs/sha256/" + "1" * 64)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert load(other, io.BytesIO(buffer.getvalue())).id == made[1].id
    assert not list(tmp_path.rglob("evil"))


def test_a_repackaged_model_shares_its_files_and_has_another_context(made: tuple[ModelStore, Model]) -> None:
    store, model = made
    before = store.disk_usage()
    smaller = repackage(store, "me/tiny:v1", "me/tiny:short", context_size=64)
    assert smaller.config.context_size == 64
    assert smaller.layers["weights"] == model.layers["weights"]
    assert store.disk_usage() - before < 4096


@pytest.mark.slow
def test_a_model_leaves_and_enters_over_http(server: Server) -> None:
    data = server.get("/models/ai/smollm2/export").content
    [shown] = [m for m in server.get("/models").json() if "ai/smollm2:latest" in m["tags"]]
    answer = server.raw("/models/load?name=me/loaded", data)
    assert answer.status_code == 200
    assert answer.json() == {"type": "success", "message": f"Model loaded: {shown['id']}", "mode": "pull"}
    assert server.get("/models/me/loaded").json()["id"] == shown["id"]
    short = server.post("/models/me/loaded/repackage", {"target": "me/short", "context_size": 128})
    assert short.status_code == 201
    for name in ("me/loaded", "me/short"):
        assert server.delete(f"/models/{name}").status_code == 200
    assert server.raw("/models/load", b"noise").status_code == 422
    assert server.get("/models/nobody/export").status_code == 404


def dockers(store: ModelStore, model: Model) -> bytes:
    """As Docker's runner writes it: folders, layers, config, manifest; no name."""
    blobs = [*model.manifest.layers, model.manifest.config]
    members = {f"blobs/sha256/{b.digest[7:]}": store.layout.read_blob(b.digest, 1 << 30) for b in blobs}
    return tar_of({**members, "manifest.json": store.layout.read_manifest_bytes(model.id)})


def members_of(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folder = tarfile.TarInfo("blobs")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
