"""Models by Hugging Face's names, against a server here that answers as the Hub's documentation says."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from harbourmaster.core.digests import DigestMismatch
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from registry.errors import RemoteLied, RemoteNotFound, RemoteUnauthorized, SignatureMissing
from runner.errors import ModelInvalid, RequestInvalid
from runner.store import fetch, huggingface
from runner.store.huggingface import File, choose
from runner.store.store import ModelStore
from tests.runner.gguffile import STRING, GgufFile, pair, string

COMMIT = "c" * 40
NAME = "hf.co/Someone/Tiny-GGUF"
PROJECTOR = GgufFile(pairs=[pair("general.architecture", STRING, string("clip"))]).bytes()


@dataclass
class Hub:
    files: dict[str, bytes]
    port: int = 0
    cut_after: int | None = None
    wrong: bytes = b""
    token: str = ""
    elsewhere: str = ""
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def tree(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{"type": "directory", "path": "more", "size": 0}]
        for path, data in self.files.items():
            row: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": "0" * 40}
            if path.endswith(".gguf"):
                row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            rows.append(row)
        return rows


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        self.hub.asked.append((path, self.headers.get("Range"), self.headers.get("Authorization")))
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}" and "/cdn/" not in path:
            self._send(401, b"{}")
        elif path == "/api/models/Someone/Tiny-GGUF":
            self._json({"id": "Someone/Tiny-GGUF", "sha": COMMIT, "lastModified": "2026-01-02T03:04:05.000Z"})
        elif path == f"/api/models/Someone/Tiny-GGUF/tree/{COMMIT}":
            rows = hub.tree()
            second = "page=2" in self.path
            following = f'<http://127.0.0.1:{hub.port}{path}?recursive=true&page=2>; rel="next"'
            self._json(rows[2:] if second else rows[:2], {} if second else {"Link": following})
        elif path.startswith(f"/Someone/Tiny-GGUF/resolve/{COMMIT}/"):
            name = path.partition(f"{COMMIT}/")[2]
            place = hub.elsewhere or f"http://localhost:{hub.port}"  # the Hub keeps large files on another host
            self._send(302, b"", {"Location": f"{place}/cdn/{name}"}) if name.endswith(".gguf") else self._file(name)
        elif path.startswith("/cdn/"):
            self._file(path.removeprefix("/cdn/"))
        else:
            self._send(404, b"{}")

    def _file(self, name: str) -> None:
        data = self.hub.wrong or self.hub.files[name]
        start = int((self.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self._send(206 if start else 200, data[start:], headers)

    def _json(self, body: Any, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(body).encode(), headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        cut = self.hub.cut_after if len(data) > 100_000 else None
        self.wfile.write(data[:cut])
        if cut is not None:
            self.hub.cut_after = None
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def weights() -> bytes:
    file = GgufFile()
    file.data += os.urandom(1 << 20)
    return file.bytes()


@pytest.fixture
def hub(weights: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    files = {
        "README.md": b"# Tiny",
        "LICENSE": b"free",
        "tiny-Q8_0.gguf": weights[::-1],
        "tiny-Q4_K_M.gguf": weights,
        "mmproj-tiny-F16.gguf": PROJECTOR,
        "mmproj-tiny-F32.gguf": PROJECTOR + bytes(64),
        "chat_template.jinja": b"{{ messages }}",
    }
    hub = Hub(files)
    handler = type("Bound", (Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.port = server.server_port
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.port}")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield hub
        server.shutdown()
        thread.join()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def test_a_model_comes_by_its_name_with_template_and_licence(hub: Hub, store: ModelStore, weights: bytes) -> None:
    model = huggingface.pull(store, NAME)
    assert model.tags == ("hf.co/someone/tiny-gguf:latest",)
    assert store.weights(model)[0].read_bytes() == weights
    assert store.template(model) == "{{ messages }}"
    assert store.licenses(model) == ["free"]
    projector = store.projector(model)
    assert projector is not None
    assert projector.read_bytes() == PROJECTOR
    assert store.find(NAME).id == model.id
    assert all(COMMIT in path for path, _, _ in hub.asked if "resolve" in path)


def test_the_same_commit_gives_the_same_id(hub: Hub, store: ModelStore, tmp_path: Path) -> None:
    assert huggingface.pull(store, NAME).id == huggingface.pull(ModelStore(tmp_path / "other"), NAME).id


def test_a_broken_download_goes_on_where_it_stopped(hub: Hub, store: ModelStore, weights: bytes) -> None:
    hub.cut_after = 300_000
    with pytest.raises(RemoteLied, match="breaks off"):
        huggingface.pull(store, NAME)
    assert store.all() == []
    hub.asked.clear()
    assert store.weights(huggingface.pull(store, NAME))[0].read_bytes() == weights
    assert ("/cdn/tiny-Q4_K_M.gguf", "bytes=300000-", None) in hub.asked


def test_other_bytes_than_the_hub_promised_are_refused(hub: Hub, store: ModelStore, weights: bytes) -> None:
    hub.wrong = bytes(len(weights))
    with pytest.raises(DigestMismatch):
        huggingface.pull(store, NAME)
    assert store.all() == []


def test_the_token_goes_to_the_hub_alone(hub: Hub, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_secret"
    with pytest.raises(RemoteUnauthorized, match="does not let us"):
        huggingface.pull(store, NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.asked.clear()
    huggingface.pull(store, NAME)
    assert {token for path, _, token in hub.asked if "/cdn/" not in path} == {"Bearer hf_secret"}
    assert {token for path, _, token in hub.asked if "/cdn/" in path} == {None}


def test_a_redirect_to_another_scheme_is_not_followed(hub: Hub, store: ModelStore) -> None:
    hub.elsewhere = "file:///etc"
    with pytest.raises(RemoteLied, match="another scheme"):
        huggingface.pull(store, NAME)


def test_what_is_not_there_is_named(hub: Hub, store: ModelStore) -> None:
    with pytest.raises(RemoteNotFound) as refused:
        huggingface.pull(store, f"{NAME}:Q2_K")
    assert "tiny-Q4_K_M.gguf" in refused.value.remedy
    with pytest.raises(RemoteNotFound):
        huggingface.pull(store, "hf.co/nobody/nothing")


@pytest.mark.parametrize("name", ["hf.co/one", "hf.co/a/b/c", "hf.co/../../etc", "hf.co/a/b:c/d", "hf.co/a/b?x=1"])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(RequestInvalid):
        fetch.check_name(name)


def files(*names: str) -> list[File]:
    return [File(n, 1, f"sha256:{'0' * 64}") for n in names]


@pytest.mark.parametrize(
    ("there", "wanted", "chosen"),
    [
        (("m-Q4_K_M.gguf", "m-Q8_0.gguf"), "", ["m-Q4_K_M.gguf"]),
        (("m-Q8_0.gguf", "m-F16.gguf"), "", ["m-F16.gguf"]),
        (("m-Q4_K.gguf", "m-Q4_K_M.gguf"), "q4_k", ["m-Q4_K.gguf"]),
        (("b/m-Q8_0-00002-of-00002.gguf", "b/m-Q8_0-00001-of-00002.gguf"), "Q8_0",
         ["b/m-Q8_0-00001-of-00002.gguf", "b/m-Q8_0-00002-of-00002.gguf"]),
    ],
)  # fmt: skip
def test_one_quantization_is_chosen_with_all_its_shards(there: tuple[str, ...], wanted: str, chosen: list[str]) -> None:
    assert [f.path for f in choose(files(*there), wanted)] == chosen


def test_shards_that_are_missing_and_files_without_a_hash_are_refused() -> None:
    with pytest.raises(ModelInvalid, match="1 of 00002"):
        choose(files("m-00001-of-00002.gguf"), "")
    with pytest.raises(RemoteNotFound):
        choose([File("m.gguf", 1)], "")


def test_a_policy_for_models_refuses_what_nobody_can_have_signed(hub: Hub, settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    settings.trust_file.write_text(
        "version: 1\nrules: [{name: models, tier: model, servers: ['*'], keys: [{local: true}]}]\n"
    )
    store = ModelStore(settings.home / "models")
    with pytest.raises(SignatureMissing):
        fetch.pull(settings, store, NAME)
    assert hub.asked == []
    assert isinstance(SignatureMissing("x"), HarbourError)
