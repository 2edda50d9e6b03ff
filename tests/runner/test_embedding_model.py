"""An embedding model: written by us, read by us, computed by the engine."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from runner.engine.client import EngineProcess
from runner.engine.spec import EngineSpec
from runner.errors import ModelInvalid, PromptTooLong, RequestInvalid
from runner.gguf import check_file
from runner.gguf_write import write
from runner.store.minilm import read_safetensors


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    tensors = {
        "b.weight": np.arange(12, dtype=np.float16).reshape(3, 4),
        "a.bias": np.arange(5, dtype=np.float32),
    }
    metadata = {
        "general.architecture": "bert",
        "x.n": 7,
        "x.f": 0.5,
        "x.t": True,
        "x.words": ["a", "é"],
        "x.ids": [1, 2],
    }
    write(tmp_path / "m.gguf", metadata, tensors)
    gguf = check_file(tmp_path / "m.gguf")
    assert gguf.metadata == metadata
    assert [(t.name, t.shape, t.type) for t in gguf.tensors] == [("b.weight", (4, 3), "F16"), ("a.bias", (5,), "F32")]
    start = gguf.data_start + gguf.tensors[1].offset
    assert (tmp_path / "m.gguf").read_bytes()[start : start + 20] == tensors["a.bias"].tobytes()


@pytest.mark.parametrize("offsets", [[0, 12], [-4, 4], [4, 12], [8, 0]])
def test_tensors_outside_of_a_safetensors_file_are_refused(tmp_path: Path, offsets: list[int]) -> None:
    header = json.dumps({"t": {"dtype": "F32", "shape": [2], "data_offsets": offsets}}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(ModelInvalid, match="outside"):
        read_safetensors(path)


def test_a_safetensors_header_longer_than_its_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 40) + bytes(8))
    with pytest.raises(ModelInvalid, match="header"):
        read_safetensors(path)


@pytest.mark.slow
async def test_like_texts_get_like_vectors_and_too_long_ones_are_refused(engine_installed: None, minilm: Path) -> None:
    engine = await EngineProcess.start(EngineSpec("all-minilm", (str(minilm),), threads=1))
    try:
        texts = ["a small cat", "a little kitten", "interest rates rose"]
        vectors = np.array(await engine.ask({"op": "embed", "inputs": texts}))
        alone = np.array(await engine.ask({"op": "embed", "inputs": texts[:1]}))
        with pytest.raises(PromptTooLong, match="512"):
            await engine.ask({"op": "embed", "inputs": ["word " * 600]})
        with pytest.raises(RequestInvalid, match="embeddings, not text"):
            await engine.ask({"op": "generate", "prompt": "x"})
    finally:
        await engine.stop()
    likeness = vectors @ vectors.T
    assert np.allclose(np.diag(likeness), 1, atol=1e-3)
    assert likeness[0, 1] > 0.7 > 0.2 > likeness[0, 2]
    assert np.allclose(alone[0], vectors[0], atol=2e-3)
