"""Models through registries: a real one, and ones that break off or lie."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from harbourmaster.core.digests import DigestMismatch, sha256
from harbourmaster.core.errors import HarbourError
from registry.oci.descriptor import Descriptor, image_manifest
from runner.errors import ModelInvalid, Unsupported
from runner.store import media, transfer
from runner.store.package import Parts, package
from runner.store.store import ModelStore
from tests.runner.conftest import free_port
from tests.runner.gguffile import GgufFile

SIZE = 3 << 20


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = GgufFile()
    file.data += os.urandom(SIZE)
    return file.write(tmp_path / "model.gguf")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Debian's docker-registry on a free loopback port."""
    program = shutil.which("docker-registry")
    if not program:
        pytest.skip("docker-registry is not installed (Debian: apt-get install docker-registry)")
    address = f"127.0.0.1:{free_port()}"
    config = tmp_path / "registry.yml"
    storage = f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}"
    config.write_text(f"version: 0.1\nlog: {{level: error}}\n{storage}\nhttp: {{addr: '{address}'}}\n")
    process = subprocess.Popen([program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                httpx2.get(f"http://{address}/v2/")
                break
            except httpx2.TransportError:
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait()


def test_a_model_goes_to_a_registry_and_comes_back_with_the_same_id(
    store: ModelStore, weights: Path, registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/me/tiny:v1"
    made = package(store, Parts((weights,)), name)
    assert transfer.push(store, name) == made.id
    other = ModelStore(tmp_path / "other")
    seen: list[tuple[str, int, int]] = []
    pulled = transfer.pull(other, name, lambda *event: seen.append(event))
    assert pulled.id == made.id
    assert other.weights(pulled)[0].read_bytes() == weights.read_bytes()
    assert (made.layers["weights"][0].digest, weights.stat().st_size, weights.stat().st_size) in seen
    assert list((tmp_path / "other" / "partial").iterdir()) == []


class Broken(http.server.ThreadingHTTPServer):
    """Serves one model; breaks off, ignores ranges, or sends other bytes, as told."""

    def __init__(self, manifest: bytes, blobs: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.manifest, self.blobs = manifest, blobs
        self.cut_after: int | None = None
        self.ranges = True
        self.wrong_range = False
        self.asked: list[str | None] = []
        self.meeting: threading.Barrier | None = None  # large blobs are sent once that many are asked for
        self.daemon_threads = True

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.server_port}/me/tiny:v1"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Broken

    def do_GET(self) -> None:
        if "/manifests/" in self.path:
            self._send(200, self.server.manifest, {"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
            return
        data = self.server.blobs[self.path.rpartition("/")[2]]
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.meeting and len(data) > SIZE:
            self.server.meeting.wait()
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(data) and start:
            self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        shown = start + 1 if self.server.wrong_range else start
        headers = {"Content-Range": f"bytes {shown}-{len(data) - 1}/{len(data)}"} if start else {}
        self._send(206 if start else 200, data[start:], headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        cut = self.server.cut_after
        if cut is not None and len(data) > cut:
            self.wfile.write(data[:cut])
            self.close_connection = True
            return
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def broken(store: ModelStore, weights: Path) -> Iterator[Broken]:
    """A server of a model that was packaged in ``store``, which is emptied."""
    model = package(store, Parts((weights,)), "me/tiny")
    manifest = store.layout.read_manifest_bytes(model.id)
    blobs = {b.digest: store.layout.read_blob(b.digest) for b in model.manifest.blobs}
    store.remove("me/tiny")
    with Broken(manifest, blobs) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def sharded(store: ModelStore, tmp_path: Path) -> Iterator[tuple[Broken, list[str]]]:
    """A server of a model of two files, and their digests."""
    paths = []
    for number in (1, 2):
        file = GgufFile()
        file.data += os.urandom(SIZE)
        paths.append(file.write(tmp_path / f"m-0000{number}-of-00002.gguf"))
    model = package(store, Parts(tuple(paths)), "me/tiny")
    blobs = {b.digest: store.layout.read_blob(b.digest) for b in model.manifest.blobs}
    manifest = store.layout.read_manifest_bytes(model.id)
    store.remove("me/tiny")
    with Broken(manifest, blobs) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server, [d.digest for d in model.layers["weights"]]
        server.shutdown()
        thread.join()


def test_layers_come_at_the_same_time(store: ModelStore, tmp_path: Path) -> None:
    with sharded(store, tmp_path) as (server, digests):
        server.meeting = threading.Barrier(2, timeout=30)
        pulled = transfer.pull(store, server.name)
    assert [d.digest for d in pulled.layers["weights"]] == digests


def test_a_layer_that_is_a_lie_fails_the_pull_and_names_nothing(store: ModelStore, tmp_path: Path) -> None:
    with sharded(store, tmp_path) as (server, digests):
        server.blobs[digests[1]] = bytes(len(server.blobs[digests[1]]))
        with pytest.raises(DigestMismatch):
            transfer.pull(store, server.name)
    assert store.all() == []


def test_a_pull_that_breaks_off_twice_goes_on_where_it_stopped(store: ModelStore, broken: Broken) -> None:
    broken.cut_after = 1 << 20
    for _ in range(2):
        with pytest.raises(HarbourError, match="breaks off"):
            transfer.pull(store, broken.name)
        assert store.all() == []
    broken.cut_after = None
    model = transfer.pull(store, broken.name)
    assert store.layout.verify_blob(model.layers["weights"][0].digest)
    assert broken.asked[-1] == f"bytes={2 << 20}-"


def test_a_server_without_ranges_starts_over(store: ModelStore, broken: Broken) -> None:
    broken.cut_after, broken.ranges = 1 << 20, False
    with pytest.raises(HarbourError):
        transfer.pull(store, broken.name)
    broken.cut_after = None
    assert transfer.pull(store, broken.name).id.startswith("sha256:")


def test_a_range_that_was_not_asked_for_is_not_appended(store: ModelStore, broken: Broken) -> None:
    broken.cut_after = 1 << 20
    with pytest.raises(HarbourError):
        transfer.pull(store, broken.name)
    broken.cut_after, broken.wrong_range = None, True
    assert transfer.pull(store, broken.name).id.startswith("sha256:")


def test_a_partial_file_that_is_too_long_is_thrown_away(store: ModelStore, broken: Broken) -> None:
    digest = max(broken.blobs, key=lambda d: len(broken.blobs[d]))
    (store.root / "partial").mkdir(parents=True)
    (store.root / "partial" / digest[7:]).write_bytes(bytes(len(broken.blobs[digest]) + 5))
    assert transfer.pull(store, broken.name).id.startswith("sha256:")


def test_other_bytes_under_a_digest_are_refused_and_not_kept(store: ModelStore, broken: Broken) -> None:
    digest = max(broken.blobs, key=lambda d: len(broken.blobs[d]))
    broken.blobs[digest] = bytes(len(broken.blobs[digest]))
    with pytest.raises(DigestMismatch):
        transfer.pull(store, broken.name)
    assert store.all() == []
    assert not (store.root / "partial" / digest[7:]).exists()


def test_a_blob_longer_than_its_manifest_says_is_refused(store: ModelStore, broken: Broken) -> None:
    digest = max(broken.blobs, key=lambda d: len(broken.blobs[d]))
    broken.blobs[digest] += b"more"
    with pytest.raises(HarbourError, match="more than"):
        transfer.pull(store, broken.name)


def test_two_pulls_of_one_model_at_once_both_succeed(store: ModelStore, broken: Broken) -> None:
    results: list[object] = []

    def work() -> None:
        try:
            results.append(transfer.pull(store, broken.name).id)
        except HarbourError as e:
            results.append(e)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]
    assert isinstance(results[0], str)


def test_an_image_is_refused_before_its_layers_are_fetched(store: ModelStore, broken: Broken) -> None:
    config = Descriptor("application/vnd.oci.image.config.v1+json", sha256(b"{}"), 2)
    broken.manifest = image_manifest(config, [])
    with pytest.raises(ModelInvalid, match="no model"):
        transfer.pull(store, broken.name)
    assert broken.asked == []


def test_a_model_without_gguf_weights_is_refused_before_its_layers_are_fetched(
    store: ModelStore, broken: Broken
) -> None:
    data = b'{"config": {"format": "safetensors"}}'
    broken.blobs[sha256(data)] = data
    layer = Descriptor(media.DOCKER_SAFETENSORS, sha256(b"x"), 1)
    broken.manifest = image_manifest(Descriptor(media.DOCKER_CONFIG_V1, sha256(data), len(data)), [layer])
    with pytest.raises(ModelInvalid, match="no GGUF weights"):
        transfer.pull(store, broken.name)
    assert len(broken.asked) == 1


def test_hugging_face_names_say_what_to_do_instead(store: ModelStore) -> None:
    with pytest.raises(Unsupported, match="Hugging Face"):
        transfer.pull(store, "hf.co/someone/model")
