"""Models that see, with random weights: a tiny language model and its projector, as GGUF files.

What they say means nothing; that they say something else about another picture shows that the picture got there.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from runner import gguf_write

WIDTH = 64  # of the language model
SEES, SEES_WIDTH, SEES_FEED = 2, 32, 48  # layers, width and inner width of the projector's own network
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
CONTROL, NORMAL = 3, 1  # token types (gguf.md)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
Tensors = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Kind:
    """``text``: architecture of the language model; ``projector``: how pictures become its input."""

    text: str
    projector: str
    side: int  # pixels of a picture as the projector takes it
    patch: int


LLAVA = Kind("llama", "mlp", 32, 8)  # fixed size, one position for each row
GEMMA = Kind("llama", "gemma3", 32, 4)  # rows see each other: not causal
QWEN = Kind("qwen2vl", "qwen2vl_merger", 112, 14)  # M-RoPE: rows have places in two dimensions; any size


class _Random:
    def __init__(self, seed: int) -> None:
        self._drawn = np.random.default_rng(seed)

    def matrix(self, rows: int, columns: int) -> np.ndarray[Any, Any]:
        return self._drawn.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)

    def __call__(self, *shape: int, scale: float = 0.1) -> np.ndarray[Any, Any]:
        return self._drawn.normal(0, scale, shape).astype(np.float32)


def language_model(path: Path, kind: Kind) -> Path:
    tokens, types = _vocabulary()
    name = kind.text
    metadata: dict[str, Any] = {
        "general.architecture": name,
        "general.name": "tiny",
        f"{name}.context_length": 2048,
        f"{name}.embedding_length": WIDTH,
        f"{name}.block_count": 2,
        f"{name}.feed_forward_length": 96,
        f"{name}.attention.head_count": 2,
        f"{name}.attention.head_count_kv": 1,
        f"{name}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{name}.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": ["h e"],
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }
    if kind is QWEN:
        metadata["qwen2vl.rope.dimension_sections"] = [4, 6, 6, 0]
    gguf_write.write(path, metadata, _language_tensors(_Random(1), len(tokens), biased=kind is QWEN))
    return path


def _language_tensors(random: _Random, words: int, *, biased: bool) -> Tensors:
    tensors: Tensors = {"token_embd.weight": random(words, WIDTH, scale=1.0)}
    for i in range(2):
        block = f"blk.{i}."
        tensors[f"{block}attn_norm.weight"] = np.ones(WIDTH, np.float32)
        for part, width in (("q", WIDTH), ("k", WIDTH // 2), ("v", WIDTH // 2)):
            tensors[f"{block}attn_{part}.weight"] = random.matrix(width, WIDTH) * 3
            if biased:
                tensors[f"{block}attn_{part}.bias"] = random(width)
        tensors[f"{block}attn_output.weight"] = random.matrix(WIDTH, WIDTH) * 6
        tensors[f"{block}ffn_norm.weight"] = np.ones(WIDTH, np.float32)
        tensors[f"{block}ffn_gate.weight"] = random.matrix(96, WIDTH)
        tensors[f"{block}ffn_up.weight"] = random.matrix(96, WIDTH)
        tensors[f"{block}ffn_down.weight"] = random.matrix(WIDTH, 96)
    tensors["output_norm.weight"] = np.ones(WIDTH, np.float32)
    tensors["output.weight"] = random.matrix(words, WIDTH) * 2
    return tensors


def _vocabulary() -> tuple[list[str], list[int]]:
    """The bytes as GPT-2 writes them, one merge, and the special tokens."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    letters = [chr(b) for b in shown] + [chr(256 + i) for i in range(len(hidden))]
    return [*letters, "he", *SPECIAL], [NORMAL] * (len(letters) + 1) + [CONTROL] * len(SPECIAL)


def projector(path: Path, kind: Kind, *, width: int = WIDTH, **changes: Any) -> Path:
    metadata: dict[str, Any] = {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": kind.projector,
        "clip.use_gelu": True,
        "clip.vision.image_size": kind.side,
        "clip.vision.patch_size": kind.patch,
        "clip.vision.embedding_length": SEES_WIDTH,
        "clip.vision.feed_forward_length": SEES_FEED,
        "clip.vision.projection_dim": width,
        "clip.vision.attention.head_count": 2,
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.block_count": SEES,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
        **changes,
    }
    random = _Random(2)
    tensors = _patches(random, kind)
    for i in range(SEES):
        tensors |= _block(random, f"v.blk.{i}.")
    tensors |= _projection(random, kind, width)
    gguf_write.write(path, metadata, tensors)
    return path


def _patches(random: _Random, kind: Kind) -> Tensors:
    shape = (SEES_WIDTH, 3, kind.patch, kind.patch)
    tensors = {"v.patch_embd.weight": random(*shape, scale=0.2)}
    if kind is QWEN:
        tensors["v.patch_embd.weight.1"] = random(*shape, scale=0.2)
    else:
        tensors["v.position_embd.weight"] = random((kind.side // kind.patch) ** 2, SEES_WIDTH, scale=0.1)
    tensors["v.post_ln.weight"], tensors["v.post_ln.bias"] = np.ones(SEES_WIDTH, np.float32), random(SEES_WIDTH)
    return tensors


def _block(random: _Random, prefix: str) -> Tensors:
    tensors: Tensors = {}
    for norm in ("ln1", "ln2"):
        tensors[f"{prefix}{norm}.weight"] = np.ones(SEES_WIDTH, np.float32)
        tensors[f"{prefix}{norm}.bias"] = random(SEES_WIDTH)
    sizes = {name: (SEES_WIDTH, SEES_WIDTH) for name in ("attn_q", "attn_k", "attn_v", "attn_out")}
    sizes |= {"ffn_up": (SEES_FEED, SEES_WIDTH), "ffn_down": (SEES_WIDTH, SEES_FEED)}
    for name, (out, into) in sizes.items():
        tensors[f"{prefix}{name}.weight"] = random.matrix(out, into)
        tensors[f"{prefix}{name}.bias"] = random(out)
    return tensors


def _projection(random: _Random, kind: Kind, width: int) -> Tensors:
    if kind is GEMMA:
        scale = np.full(SEES_WIDTH, 4, np.float32)
        return {"mm.input_projection.weight": random(SEES_WIDTH, width, scale=0.5), "mm.soft_emb_norm.weight": scale}
    seen = SEES_WIDTH * (4 if kind is QWEN else 1)
    inner = seen if kind is QWEN else width
    return {
        "mm.0.weight": random.matrix(inner, seen),
        "mm.0.bias": random(inner),
        "mm.2.weight": random.matrix(width, inner) * 4,
        "mm.2.bias": random(width),
    }


def png(seed: int, width: int = 40, height: int = 30) -> bytes:
    """A picture of coloured squares, another for each seed."""
    squares = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    image = Image.fromarray(squares).resize((width, height), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
