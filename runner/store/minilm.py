"""all-MiniLM-L6-v2 (Apache-2.0), an embedding model, from its safetensors to GGUF.

Names of tensors and keys are llama.cpp's for BERT (``gguf-py/gguf/constants.py``); matrices become float16, as its own
converter writes them by default.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from runner.errors import ModelInvalid
from runner.gguf_write import Array, write

MAX_HEADER = 16 << 20  # bytes of a safetensors header; this one has 11 kB
_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
_NORMAL, _CONTROL = 1, 3  # enum llama_token_type
_MEAN = 1  # enum llama_pooling_type
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_EMBEDDINGS = {
    "word_embeddings.weight": "token_embd.weight",
    "position_embeddings.weight": "position_embd.weight",
    "token_type_embeddings.weight": "token_types.weight",
    "LayerNorm.weight": "token_embd_norm.weight",
    "LayerNorm.bias": "token_embd_norm.bias",
}
_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_FULL = ("position_embd.weight", "token_types.weight")  # llama.cpp wants these in float32


def convert(weights: Path, config: Path, vocabulary: Path, target: Path) -> None:
    """Write ``target``; raises ``ModelInvalid``."""
    facts = json.loads(config.read_text())
    if facts.get("model_type") != "bert":
        raise ModelInvalid("this converter knows BERT only", remedy="convert the model with llama.cpp's converter")
    tensors = {new: _sized(new, array) for old, array in read_safetensors(weights).items() if (new := _renamed(old))}
    write(target, _metadata(facts, vocabulary.read_text().splitlines()), tensors)


def read_safetensors(path: Path) -> dict[str, Array]:
    """Tensor name -> array over the file; every range is checked against it (safetensors README, "Format")."""
    data = np.memmap(path, np.uint8, "r")
    (size,) = struct.unpack("<Q", bytes(data[:8]))
    if size > min(MAX_HEADER, len(data) - 8):
        raise _broken(path, "its header is longer than the file")
    header = json.loads(bytes(data[8 : 8 + size]))
    body = data[8 + size :]
    return {name: _tensor(path, name, entry, body) for name, entry in header.items() if name != "__metadata__"}


def _tensor(path: Path, name: str, entry: dict[str, Any], body: Array) -> Array:
    if entry["dtype"] not in _TYPES:
        return np.empty(0, np.float32)  # position ids and the like, which nobody needs
    start, end = entry["data_offsets"]
    kind: np.dtype[Any] = _TYPES[entry["dtype"]]
    shape = tuple(entry["shape"])
    if not 0 <= start <= end <= len(body) or end - start != int(np.prod(shape)) * kind.itemsize:
        raise _broken(path, f"the tensor {name} lies outside of the file")
    return body[start:end].view(kind).reshape(shape)


def _renamed(name: str) -> str:
    name = name.removeprefix("bert.")
    if name.startswith("embeddings."):
        return _EMBEDDINGS.get(name.removeprefix("embeddings."), "")
    if name.startswith("encoder.layer."):
        number, _, rest = name.removeprefix("encoder.layer.").partition(".")
        part, _, kind = rest.rpartition(".")
        return f"blk.{int(number)}.{_LAYER[part]}.{kind}" if part in _LAYER else ""
    return ""


def _sized(name: str, array: Array) -> Array:
    return array.astype(np.float32 if array.ndim == 1 or name in _FULL else np.float16)


def _metadata(facts: dict[str, Any], words: list[str]) -> dict[str, Any]:
    return {
        "general.architecture": "bert",
        "general.type": "model",
        "general.name": "all-MiniLM-L6-v2",
        "general.license": "apache-2.0",
        "general.file_type": 1,
        "bert.block_count": facts["num_hidden_layers"],
        "bert.context_length": facts["max_position_embeddings"],
        "bert.embedding_length": facts["hidden_size"],
        "bert.feed_forward_length": facts["intermediate_size"],
        "bert.attention.head_count": facts["num_attention_heads"],
        "bert.attention.layer_norm_epsilon": float(facts["layer_norm_eps"]),
        "bert.attention.causal": False,
        "bert.pooling_type": _MEAN,
        "tokenizer.ggml.token_type_count": facts["type_vocab_size"],
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [_word(w) for w in words],
        "tokenizer.ggml.token_type": [_CONTROL if w in _SPECIAL else _NORMAL for w in words],
        "tokenizer.ggml.unknown_token_id": words.index("[UNK]"),
        "tokenizer.ggml.seperator_token_id": words.index("[SEP]"),  # spelled so in llama.cpp
        "tokenizer.ggml.padding_token_id": words.index("[PAD]"),
        "tokenizer.ggml.cls_token_id": words.index("[CLS]"),
        "tokenizer.ggml.mask_token_id": words.index("[MASK]"),
    }


def _word(word: str) -> str:
    """llama.cpp marks where words begin; WordPiece marks where they go on."""
    if word in _SPECIAL:
        return word
    return word[2:] if word.startswith("##") else f"\u2581{word}"


def _broken(path: Path, why: str) -> ModelInvalid:
    return ModelInvalid(f"{path.name} is no usable safetensors file: {why}", remedy="fetch it again")
