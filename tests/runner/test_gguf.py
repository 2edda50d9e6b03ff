"""Model files from strangers: every lie is found before the C library sees the file."""

from __future__ import annotations

import contextlib
import random
import struct
from pathlib import Path

import pytest

from runner.errors import GgufInvalid
from runner.gguf import LongArray, check_file
from tests.runner.gguffile import ARRAY, STRING, U32, GgufFile, pair, string, tensor

ARCHITECTURE = pair("general.architecture", STRING, string("llama"))


def test_a_right_file_is_read(tmp_path: Path) -> None:
    pairs = [ARCHITECTURE, pair("llama.context_length", U32, struct.pack("<I", 4096))]
    gguf = check_file(GgufFile(pairs=pairs).write(tmp_path / "m.gguf"))
    assert gguf.architecture == "llama"
    assert gguf.context_length == 4096
    assert [t.name for t in gguf.tensors] == ["a", "b"]
    assert gguf.parameters == 96


def test_long_arrays_are_walked_through_and_not_kept(tmp_path: Path) -> None:
    texts = struct.pack("<IQ", STRING, 1000) + b"".join(string(str(i)) for i in range(1000))
    pairs = [ARCHITECTURE, pair("tokenizer.ggml.tokens", ARRAY, texts)]
    gguf = check_file(GgufFile(pairs=pairs).write(tmp_path / "m.gguf"))
    assert gguf.metadata["tokenizer.ggml.tokens"] == LongArray(1000)


def test_texts_that_would_fill_the_memory_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.gguf.MAX_KEPT_BYTES", 10_000)
    few = [ARCHITECTURE, *(pair(f"k{n}", STRING, string("x" * 1000)) for n in range(5))]
    check_file(GgufFile(pairs=few).write(tmp_path / "few.gguf"))
    many = [*few, *(pair(f"m{n}", STRING, string("x" * 1000)) for n in range(5))]
    with pytest.raises(GgufInvalid, match="bytes of text"):
        check_file(GgufFile(pairs=many).write(tmp_path / "many.gguf"))


WRONG = {
    "magic": (GgufFile(magic=b"GGML"), "does not begin with GGUF"),
    "version-1": (GgufFile(version=1), "version 1"),
    "big-endian-version": (GgufFile(version=3 << 24), "version"),
    "too-many-tensors": (GgufFile(tensor_count=1 << 60), "number of tensors"),
    "more-tensors-than-there-are": (GgufFile(tensor_count=3), "dimensions|length|text|type|name|middle"),
    "too-many-pairs": (GgufFile(pair_count=1 << 40), "number of metadata"),
    "no-architecture": (GgufFile(pairs=[]), "no architecture"),
    "architecture-is-a-number": (
        GgufFile(pairs=[pair("general.architecture", U32, struct.pack("<I", 1))]),
        "no architecture",
    ),
    "the-same-key-twice": (GgufFile(pairs=[ARCHITECTURE, ARCHITECTURE]), "twice"),
    "an-endless-string": (
        GgufFile(pairs=[pair("general.architecture", STRING, struct.pack("<Q", 1 << 62))]),
        "text of",
    ),
    "an-endless-key": (GgufFile(pairs=[struct.pack("<Q", 1 << 40)]), "text of"),
    "an-endless-array": (
        GgufFile(pairs=[ARCHITECTURE, pair("x", ARRAY, struct.pack("<IQ", U32, 1 << 62))]),
        "length of x",
    ),
    "an-array-of-arrays": (
        GgufFile(pairs=[ARCHITECTURE, pair("x", ARRAY, struct.pack("<IQ", ARRAY, 1))]),
        "nested",
    ),
    "an-unknown-value-type": (GgufFile(pairs=[ARCHITECTURE, pair("x", 99, b"")]), "unknown type 99"),
    "text-that-is-not-utf-8": (
        GgufFile(pairs=[ARCHITECTURE, pair("x", STRING, string(b"\xff"))]),
        "not UTF-8",
    ),
    "an-odd-alignment": (
        GgufFile(pairs=[ARCHITECTURE, pair("general.alignment", U32, struct.pack("<I", 33))]),
        "alignment",
    ),
    "no-alignment": (
        GgufFile(pairs=[ARCHITECTURE, pair("general.alignment", U32, struct.pack("<I", 0))]),
        "alignment",
    ),
    "an-unknown-tensor-type": (GgufFile(tensors=[tensor("a", [32], 77, 0)]), "unknown type 77"),
    "five-dimensions": (GgufFile(tensors=[tensor("a", [1] * 5, 0, 0)]), "5 dimensions"),
    "an-empty-dimension": (GgufFile(tensors=[tensor("a", [0], 0, 0)]), "impossible shape"),
    "a-product-that-overflows": (GgufFile(tensors=[tensor("a", [1 << 40, 1 << 40], 0, 0)]), "impossible shape"),
    "a-shape-that-is-no-whole-block": (GgufFile(tensors=[tensor("a", [33], 2, 0)]), "impossible shape"),
    "a-tensor-larger-than-the-file": (GgufFile(tensors=[tensor("a", [1 << 30], 0, 0)]), "more than the file"),
    "an-offset-outside": (GgufFile(tensors=[tensor("a", [32], 0, 1 << 50)]), "offset"),
    "overlapping-tensors": (GgufFile(tensors=[tensor("a", [32], 0, 0), tensor("b", [32], 0, 0)]), "offset"),
    "a-name-twice": (GgufFile(tensors=[tensor("a", [32], 0, 0), tensor("a", [32], 0, 128)]), "twice"),
    "a-long-name": (GgufFile(tensors=[tensor("a" * 64, [32], 0, 0)]), "text of 64"),
    "truncated-data": (GgufFile(data=bytes(100)), "truncated"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    file, reason = WRONG[name]
    with pytest.raises(GgufInvalid, match=reason):
        check_file(file.write(tmp_path / "m.gguf"))


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = GgufFile().bytes()
    path = tmp_path / "m.gguf"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(GgufInvalid):
            check_file(path)


def test_flipped_bytes_are_refused_or_read_but_never_crash(tmp_path: Path) -> None:
    whole = bytearray(GgufFile().bytes())
    path = tmp_path / "m.gguf"
    chance = random.Random(4)
    for _ in range(2000):
        broken = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(200)] = chance.randrange(256)
        path.write_bytes(broken)
        with contextlib.suppress(GgufInvalid):  # anything else that is raised fails the test
            check_file(path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(GgufInvalid, match="cannot be read"):
        check_file(tmp_path / "none.gguf")
