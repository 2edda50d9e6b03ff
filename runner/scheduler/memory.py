"""How much memory there is now, and how much a model took when it was last loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from harbourmaster.core.files import file_lock, write_atomic
from runner.engine.spec import EngineSpec
from runner.gguf import Gguf

_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # cgroup v1 says "no limit" with a number near 2**63
_F16 = 2  # bytes of one value in the key-value memory
_OVERHEAD = 160 << 20  # interpreter, libraries and compute buffers of an engine: 150 MB measured on x86-64


def available_bytes() -> int:
    """Memory that can be used without swapping: the kernel's estimate, or less where a cgroup is tighter."""
    return min(_from_meminfo(), _from_cgroup())


def _from_meminfo() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return _UNLIMITED


def _from_cgroup() -> int:
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most = int((_CGROUP / limit).read_text())
            if most < _UNLIMITED:
                return max(most - int((_CGROUP / usage).read_text()), 0)
        except (OSError, ValueError):
            continue
    return _UNLIMITED


def estimate(files: list[Gguf], spec: EngineSpec) -> int:
    """Bytes before the first load: weights, keys and values of every cell, and the process itself."""
    return sum(f.size for f in files) + key_value_bytes(files[0], spec) + _OVERHEAD


def key_value_bytes(first: Gguf, spec: EngineSpec) -> int:
    """Keys and values of every cell; ``first``: the model's file, or the first of them."""

    def number(key: str, default: int) -> int:
        value = first.of_architecture(key)
        return value if isinstance(value, int) and 0 < value < 1 << 31 else default

    layers, width, heads = number("block_count", 1), number("embedding_length", 1), number("attention.head_count", 1)
    kv_heads = number("attention.head_count_kv", heads)
    head = number("attention.key_length", max(width // heads, 1))
    cells = max(spec.cells, spec.context)
    return 2 * layers * kv_heads * head * cells * _F16


class Measurements:
    """``measured.json``: what each model took, by its digest and the settings that matter.  Survives restarts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, model_id: str, spec: EngineSpec) -> int | None:
        value = self._read().get(_key(model_id, spec))
        return value if isinstance(value, int) and value > 0 else None

    def put(self, model_id: str, spec: EngineSpec, measured: int) -> None:
        with file_lock(self._path.with_suffix(".lock")):
            table = self._read()
            if table.get(_key(model_id, spec)) != measured:
                table[_key(model_id, spec)] = measured
                write_atomic(self._path, json.dumps(table, indent=1, sort_keys=True).encode())

    def _read(self) -> dict[str, int]:
        try:
            table = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return table if isinstance(table, dict) else {}


def _key(model_id: str, spec: EngineSpec) -> str:
    settings = replace(spec, name="", paths=(), template="", mmproj="").as_dict()
    return f"{model_id}/{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]}"
