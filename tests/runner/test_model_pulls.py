"""Pulls that clients ask for over HTTP: Docker's way, Ollama's way, and given up half way."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import ollama
import pytest

from runner.store import transfer
from runner.store.package import Parts, package
from runner.store.store import Model, ModelStore
from tests.runner.conftest import Server, serve
from tests.runner.gguffile import GgufFile
from tests.runner.test_model_killed_pull import Valve, valve
from tests.runner.test_model_transfer import registry

__all__ = ["registry", "valve"]  # fixtures

SIZE = 8 << 20


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("empty")) as server:
        yield server


@pytest.fixture
def published(registry: str, tmp_path: Path) -> Model:
    file = GgufFile()
    file.data += os.urandom(SIZE)
    source = ModelStore(tmp_path / "there")
    made = package(source, Parts((file.write(tmp_path / "m.gguf"),)), f"{registry}/me/tiny:v1")
    transfer.push(source, made.name)
    return made


def test_docker_s_and_ollama_s_clients_pull_copy_and_purge(empty: Server, published: Model) -> None:
    lines = [json.loads(line) for line in empty.post("/models/create", {"from": published.name}).text.splitlines()]
    assert lines[-1] == {"type": "success", "message": f"Model pulled: {published.id}", "mode": "pull"}
    assert any(line["type"] == "progress" and line["layer"]["size"] > SIZE for line in lines)
    assert empty.delete("/models/purge").json()[-1] == {"Deleted": published.id}
    with ollama.Client(host=empty.url) as client:
        told = list(client.pull(published.name, stream=True))
        assert (told[0].status, told[-1].status) == ("pulling manifest", "success")
        assert client.pull(published.name).status == "success"
        client.copy(published.name, "me/copy")
        assert {m.model for m in client.list().models} == {published.name, "me/copy:latest"}
        with pytest.raises(ollama.ResponseError, match="no name of a model"):
            client.pull("no name of a model")
    empty.delete("/models/purge")
    assert empty.get("/models").json() == []


def test_a_client_that_leaves_ends_its_pull_and_the_next_one_goes_on(
    empty: Server, published: Model, valve: Valve
) -> None:
    name = f"{valve.address}/me/tiny:v1"
    valve.allow(SIZE // 2)
    partial = empty.home / "models" / "partial"
    with httpx2.stream("POST", f"{empty.url}/models/create", json={"from": name}, timeout=30) as answer:
        for line in answer.iter_lines():
            body = json.loads(line)
            if body["type"] == "progress" and body["layer"]["size"] > SIZE:
                break
    valve.allow(1 << 40)
    left = _settled(partial)
    assert 0 < left < SIZE, "the pull went on although nobody waited for it"
    seen: list[int] = []
    pulled = transfer.pull(ModelStore(empty.home / "models"), name, lambda _d, current, _t: seen.append(current))
    assert pulled.id == published.id
    assert min(c for c in seen if c > 1 << 16) > left


def _settled(partial: Path) -> int:
    """The partial file's size once it has stopped growing."""
    before = -1
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        now = max((p.stat().st_size for p in partial.iterdir()), default=0)
        if now == before:
            return now
        before = now
        time.sleep(0.3)
    raise AssertionError("the pull does not stop")
