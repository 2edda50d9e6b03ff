"""Writes small GGUF files, right or wrong on purpose."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

U32, F32, STRING, ARRAY, U64 = 4, 6, 8, 9, 10


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def tensor(name: str, shape: list[int], kind: int, offset: int) -> bytes:
    dimensions = b"".join(struct.pack("<Q", n) for n in shape)
    return string(name) + struct.pack("<I", len(shape)) + dimensions + struct.pack("<IQ", kind, offset)


@dataclass
class GgufFile:
    pairs: list[bytes] = field(default_factory=lambda: [pair("general.architecture", STRING, string("llama"))])
    tensors: list[bytes] = field(default_factory=lambda: [tensor("a", [32], 0, 0), tensor("b", [64], 2, 128)])
    data: bytes = bytes(128 + 36)
    magic: bytes = b"GGUF"
    version: int = 3
    tensor_count: int | None = None
    pair_count: int | None = None

    def bytes(self) -> bytes:
        tensors = len(self.tensors) if self.tensor_count is None else self.tensor_count
        pairs = len(self.pairs) if self.pair_count is None else self.pair_count
        head = self.magic + struct.pack("<IQQ", self.version, tensors, pairs)
        head += b"".join(self.pairs) + b"".join(self.tensors)
        return head + bytes(-len(head) % 32) + self.data

    def write(self, path: Path) -> Path:
        path.write_bytes(self.bytes())
        return path
