"""GGUF files out (``ggml/docs/gguf.md``, version 3): for models that are converted here."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harbourmaster.core.files import atomic_writer
from runner.gguf import DEFAULT_ALIGNMENT
from runner.gguf_types import ARRAY, BOOL, FLOAT32, INT32, STRING, UINT32

_TENSOR_TYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1}
Array = np.ndarray[Any, Any]


def write(path: Path, metadata: dict[str, Any], tensors: dict[str, Array]) -> None:
    """``metadata`` values: texts, truth values, whole numbers (unsigned 32 bit), fractions (32 bit), lists of texts, of
    whole numbers or of fractions.  ``tensors``: float32 or float16, shapes as numpy has them.  The same input gives the same bytes.
    """
    with atomic_writer(path) as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
        for key, value in metadata.items():
            f.write(_string(key) + _value(value))
        offset = 0
        for name, array in tensors.items():
            f.write(_entry(name, array, offset))
            offset += array.nbytes + -array.nbytes % DEFAULT_ALIGNMENT
        f.write(bytes(-f.tell() % DEFAULT_ALIGNMENT))
        for array in tensors.values():
            f.write(np.ascontiguousarray(array).tobytes())
            f.write(bytes(-array.nbytes % DEFAULT_ALIGNMENT))


def _entry(name: str, array: Array, offset: int) -> bytes:
    """Dimensions are written fastest first, which is numpy's order reversed."""
    shape = b"".join(struct.pack("<Q", n) for n in reversed(array.shape))
    return (
        _string(name) + struct.pack("<I", array.ndim) + shape + struct.pack("<IQ", _TENSOR_TYPES[array.dtype], offset)
    )


def _value(value: Any) -> bytes:
    if isinstance(value, list):
        kind = {str: STRING, float: FLOAT32}.get(type(value[0]) if value else int, INT32)
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(_items(kind, value))
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, bool):
        return struct.pack("<IB", BOOL, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    return struct.pack("<II", UINT32, value)


def _items(kind: int, values: list[Any]) -> Iterator[bytes]:
    for value in values:
        yield _string(value) if kind == STRING else struct.pack("<f" if kind == FLOAT32 else "<i", value)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
