"""Reranking: by a model that ranks, and by embeddings where the model does not."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from runner.configuration import Configurations
from runner.engine.client import EngineProcess
from runner.engine.spec import EngineSpec
from runner.errors import RequestInvalid
from runner.gguf import check_file
from runner.gguf_write import write
from runner.store.package import Parts, package
from runner.store.store import ModelStore
from tests.runner.conftest import Server, serve

QUERY = "How do cats sleep?"
DOCUMENTS = ["Interest rates rose again.", "A kitten naps on the sofa.", "The harbour was built in 1820."]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ranker(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM with a head that ranks: the score is the tanh of the first number of the first token's vector."""
    known = check_file(minilm)
    tensors = {t.name: _array(minilm, known.data_start + t.offset, t.shape, t.type) for t in known.tensors}
    width = tensors["token_embd.weight"].shape[1]
    tensors["cls.weight"] = np.eye(width, dtype=np.float32)
    tensors["cls.bias"] = np.zeros(width, np.float32)
    tensors["cls.output.weight"] = np.eye(1, width, dtype=np.float32)
    tensors["cls.output.bias"] = np.full(1, 0.25, np.float32)
    path = tmp_path_factory.mktemp("ranker") / "ranker.gguf"
    name = "general.architecture"
    write(path, {name: "bert"}, tensors)
    own = 24 + 8 + len(name) + 4 + 8 + len("bert")  # where the entries of the tensors begin
    # The vocabulary is not read back as a whole: what the known file says about itself is taken over as bytes.
    mine, other = path.read_bytes(), minilm.read_bytes()
    first = known.tensors[0].name.encode()
    said = bytearray(other[24 : other.index(struct.pack("<Q", len(first)) + first)])
    pooling = said.index(b"bert.pooling_type") + len(b"bert.pooling_type") + 4
    said[pooling : pooling + 4] = struct.pack("<I", 4)
    made = check_file(path)
    last = b"cls.output.bias"
    entries = mine[own : mine.index(last) + len(last) + 4 + 8 + 4 + 8]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(known.metadata)) + said + entries
    path.write_bytes(head + bytes(-len(head) % 32) + mine[made.data_start :])
    return path


def _array(path: Path, start: int, shape: tuple[int, ...], kind: str) -> np.ndarray:
    dtype = {"F32": np.float32, "F16": np.float16}[kind]
    return np.memmap(path, dtype, "r", start, tuple(reversed(shape)))


async def test_a_ranker_gives_each_pair_its_score_alone_or_with_others(engine_installed: None, ranker: Path) -> None:
    engine = await EngineProcess.start(EngineSpec("ranker", (str(ranker),), threads=1))
    try:
        assert engine.ready["facts"]["ranks"]
        together = await engine.ask({"op": "rerank", "query": QUERY, "documents": DOCUMENTS})
        alone = [(await engine.ask({"op": "rerank", "query": QUERY, "documents": [d]}))[0][0] for d in DOCUMENTS]
        for op in ({"op": "embed", "inputs": ["x"]}, {"op": "generate", "prompt": "x"}):
            with pytest.raises(RequestInvalid):
                await engine.ask(op)
    finally:
        await engine.stop()
    scores = [row[0] for row in together]
    assert np.allclose(scores, alone, atol=2e-3)
    assert len(set(scores)) == 3
    assert all(0.25 - 1 <= s <= 0.25 + 1 for s in scores)


@pytest.fixture(scope="module")
def ranking(
    engine_installed: None, minilm: Path, ranker: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("rank-home")
    store = ModelStore(home / "models")
    copies = [shutil.copy(p, home) for p in (minilm, ranker)]
    for path, name in zip(copies, ("ai/minilm", "ai/ranker"), strict=True):
        model = package(store, Parts((Path(path),)), name)
        Configurations(home / "models" / "configurations.json").change(model, {"threads": 1})
    with serve(home) as server:
        yield server


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/engines/v1/rerank", "/engines/llama.cpp/rerank"])
def test_documents_come_back_best_first(ranking: Server, path: str) -> None:
    body = {"model": "minilm", "query": QUERY, "documents": DOCUMENTS, "top_n": 2, "return_documents": True}
    answer = ranking.post(path, body).json()
    assert answer["method"] == "cosine"
    assert answer["results"][0]["index"] == 1
    assert len(answer["results"]) == 2
    assert answer["results"][0]["document"] == {"text": DOCUMENTS[1]}
    assert answer["results"][0]["relevance_score"] > answer["results"][1]["relevance_score"]
    assert answer["usage"]["prompt_tokens"] > 10


def test_a_ranker_s_own_scores_are_used(ranking: Server) -> None:
    body = {"model": "ranker", "query": QUERY, "documents": [{"text": d} for d in DOCUMENTS]}
    answer = ranking.post("/v1/rerank", body).json()
    assert answer["method"] == "rank"
    scores = [r["relevance_score"] for r in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    refused: httpx2.Response = ranking.post("/v1/embeddings", {"model": "ranker", "input": "x"})
    assert refused.status_code == 400


@pytest.mark.parametrize("change", [{"query": ""}, {"documents": []}, {"documents": [1]}, {"top_n": 0}])
def test_a_wrong_field_is_named(ranking: Server, change: dict[str, object]) -> None:
    body = {"model": "minilm", "query": QUERY, "documents": DOCUMENTS, **change}
    answer = ranking.post("/v1/rerank", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(change))
