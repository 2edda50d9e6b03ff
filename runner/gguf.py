"""GGUF files (``ggml/docs/gguf.md``, versions 2 and 3), read with every count checked against the bytes that are there.

A model file comes from a stranger and the C library trusts much of it.  So the header, the metadata and the tensor
table pass through here first: nothing is allocated for a count before the file could hold that many, offsets must be
aligned, in order and inside the file, and sizes must not overflow.  The weights themselves are not read.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from runner.errors import GgufInvalid
from runner.gguf_types import ARRAY, BOOL, FILE_TYPES, SCALARS, STRING, TENSOR_TYPES

MAGIC = b"GGUF"
VERSIONS = (2, 3)  # 1 has 32-bit counts and was in use for three weeks of 2023
MAX_PAIRS = 1 << 16
MAX_TENSORS = 1 << 17  # the largest mixture models have below 10,000
MAX_KEY_BYTES = 65535  # gguf.md: "up to 2^16-1 bytes"
MAX_STRING_BYTES = 64 << 20  # templates and licences stay below 1 MiB
MAX_KEPT_BYTES = 256 << 20  # of all texts together; those of published models are below 20 MiB
MAX_ELEMENTS = 1 << 26
MAX_NAME_BYTES = 63  # GGML_MAX_NAME in ggml.h, with its zero
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 16
KEPT_ELEMENTS = 256  # longer arrays (vocabularies) are walked through, and only their length is kept
MAX_BYTES = (1 << 63) - 1
_LEAST_PAIR = 8 + 1 + 4 + 1  # bytes: key length, key, type, value
_LEAST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    type: str
    offset: int  # bytes from the start of the data
    size: int  # bytes


@dataclass(frozen=True)
class LongArray:
    """An array of which only the length was kept."""

    length: int


@dataclass(frozen=True)
class Gguf:
    version: int
    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]
    data_start: int
    size: int  # bytes of the whole file
    path: Path = field(compare=False)

    @property
    def architecture(self) -> str:
        return str(self.metadata["general.architecture"])

    def of_architecture(self, key: str) -> Any:
        return self.metadata.get(f"{self.architecture}.{key}")

    @property
    def context_length(self) -> int:
        value = self.of_architecture("context_length")
        return value if isinstance(value, int) else 0

    @property
    def parameters(self) -> int:
        return sum(math.prod(t.shape) for t in self.tensors)

    @property
    def quantization(self) -> str:
        named = self.metadata.get("general.file_type")
        if isinstance(named, int) and named in FILE_TYPES:
            return FILE_TYPES[named]
        return max((t.type for t in self.tensors), key=[t.type for t in self.tensors].count, default="unknown")

    @property
    def template(self) -> str:
        value = self.metadata.get("tokenizer.chat_template", "")
        return value if isinstance(value, str) else ""

    @property
    def kind(self) -> str:
        """``model``, ``adapter`` (LoRA) or ``mmproj``."""
        named = self.metadata.get("general.type", "model")
        if self.architecture == "clip" or named == "mmproj":
            return "mmproj"
        return named if isinstance(named, str) else "model"


def check_file(path: Path) -> Gguf:
    """Parse and check; raises ``GgufInvalid`` saying what is wrong and where."""
    try:
        with path.open("rb") as f:
            return _Reader(f, path).read()
    except OSError as e:
        raise GgufInvalid(f"{path.name} cannot be read: {e.strerror}", remedy="check the file") from e


class _Reader:
    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._f, self._path = stream, path
        self._size = os.fstat(stream.fileno()).st_size
        self._kept = 0  # bytes of texts that were read and not skipped

    def read(self) -> Gguf:
        if self._take(4, "the magic") != MAGIC:
            raise self._bad("it does not begin with GGUF")
        version = self._number("<I", "the version")
        if version not in VERSIONS:
            raise self._bad(f"version {version} is not supported (this reads {VERSIONS[0]} and {VERSIONS[1]})")
        tensor_count = self._count("the number of tensors", MAX_TENSORS, _LEAST_TENSOR)
        pair_count = self._count("the number of metadata values", MAX_PAIRS, _LEAST_PAIR)
        metadata = self._metadata(pair_count)
        alignment = self._alignment(metadata)
        tensors = self._tensors(tensor_count, alignment)
        start = _aligned(self._f.tell(), alignment)
        self._check_ends(tensors, start)
        return Gguf(version, metadata, tensors, start, self._size, self._path)

    # -- metadata

    def _metadata(self, count: int) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for _ in range(count):
            key = self._string("a key", MAX_KEY_BYTES)
            if not key or key in metadata:
                raise self._bad(f"the key {key[:80]!r} is empty or there twice")
            metadata[key] = self._value(self._number("<I", "a value's type"), key)
        if not isinstance(metadata.get("general.architecture"), str):
            raise self._bad("it names no architecture")
        return metadata

    def _value(self, kind: int, key: str) -> Any:
        if kind == STRING:
            return self._string(key, MAX_STRING_BYTES)
        if kind == ARRAY:
            return self._array(key)
        if kind not in SCALARS:
            raise self._bad(f"the value of {key} has the unknown type {kind}")
        value = self._number(SCALARS[kind], key)
        if kind == BOOL and value not in (0, 1):
            raise self._bad(f"the truth value {key} is {value}")
        return bool(value) if kind == BOOL else value

    def _array(self, key: str) -> Any:
        kind = self._number("<I", key)
        if kind != STRING and kind not in SCALARS:
            raise self._bad(f"the array {key} holds the unknown or nested type {kind}")
        least = 8 if kind == STRING else struct.calcsize(SCALARS[kind])
        count = self._count(f"the length of {key}", MAX_ELEMENTS, least)
        if count <= KEPT_ELEMENTS:
            return [self._value(kind, key) for _ in range(count)]
        if kind == STRING:
            for _ in range(count):
                self._skip_string(key)
        else:
            self._skip(count * least, key)
        return LongArray(count)

    def _alignment(self, metadata: dict[str, Any]) -> int:
        value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(value) is not int or not 8 <= value <= MAX_ALIGNMENT or value & (value - 1):
            raise self._bad(f"general.alignment is {value!r}, which is no power of two from 8 to {MAX_ALIGNMENT}")
        return value

    # -- tensors

    def _tensors(self, count: int, alignment: int) -> tuple[Tensor, ...]:
        tensors: list[Tensor] = []
        names: set[str] = set()
        expected = 0
        for _ in range(count):
            tensor = self._tensor()
            if tensor.name in names:
                raise self._bad(f"the tensor {tensor.name!r} is there twice")
            if tensor.offset != expected:
                raise self._bad(f"the tensor {tensor.name!r} is at offset {tensor.offset} where {expected} should be")
            names.add(tensor.name)
            tensors.append(tensor)
            expected = _aligned(expected + tensor.size, alignment)
        return tuple(tensors)

    def _tensor(self) -> Tensor:
        name = self._string("a tensor's name", MAX_NAME_BYTES)
        dimensions = self._number("<I", name)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise self._bad(f"the tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self._number("<Q", name) for _ in range(dimensions))
        kind = self._number("<I", name)
        offset = self._number("<Q", name)
        if kind not in TENSOR_TYPES:
            raise self._bad(f"the tensor {name!r} has the unknown type {kind}")
        label, block, block_bytes = TENSOR_TYPES[kind]
        elements = math.prod(shape)
        if 0 in shape or elements > MAX_BYTES or shape[0] % block:
            raise self._bad(f"the tensor {name!r} has the impossible shape {list(shape)} for {label}")
        size = elements // block * block_bytes
        if size > self._size:
            raise self._bad(f"the tensor {name!r} would be {size} bytes, more than the file's {self._size}")
        return Tensor(name, shape, label, offset, size)

    def _check_ends(self, tensors: tuple[Tensor, ...], start: int) -> None:
        if not tensors:
            return
        last = tensors[-1]
        end = start + last.offset + last.size
        if end > self._size:
            raise self._bad(
                f"it is truncated: the tensor {last.name!r} ends at byte {end} and the file at {self._size}"
            )

    # -- bytes

    def _take(self, count: int, what: str) -> bytes:
        data = self._f.read(count)
        if len(data) != count:
            raise self._bad(f"it ends in the middle of {what}")
        return data

    def _skip(self, count: int, what: str) -> None:
        if count > self._size - self._f.tell():
            raise self._bad(f"it ends in the middle of {what}")
        self._f.seek(count, os.SEEK_CUR)

    def _number(self, form: str, what: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form), what))[0]

    def _count(self, what: str, most: int, least_bytes: int) -> int:
        count = int(self._number("<Q", what))
        if count > most or count * least_bytes > self._size - self._f.tell():
            raise self._bad(f"{what} is {count}, more than the file can hold or than the limit of {most}")
        return count

    def _string(self, what: str, most: int) -> str:
        length = self._length(what, most)
        self._kept += length
        if self._kept > MAX_KEPT_BYTES:
            raise self._bad(f"its metadata has over {MAX_KEPT_BYTES} bytes of text")
        try:
            return self._take(length, what).decode()
        except UnicodeDecodeError:
            raise self._bad(f"{what} is not UTF-8") from None

    def _skip_string(self, what: str) -> None:
        self._f.seek(self._length(what, MAX_STRING_BYTES), os.SEEK_CUR)

    def _length(self, what: str, most: int) -> int:
        length = int(self._number("<Q", what))
        if length > most or length > self._size - self._f.tell():
            raise self._bad(f"{what} has a text of {length} bytes, more than the file holds or the limit of {most}")
        return length

    def _bad(self, why: str) -> GgufInvalid:
        return GgufInvalid(
            f"{self._path.name} is no usable GGUF file: {why}",
            remedy="download or convert the model again",
            at=self._f.tell(),
        )


def _aligned(value: int, alignment: int) -> int:
    return value + (-value % alignment)
