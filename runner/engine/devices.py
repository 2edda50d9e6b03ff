"""What computes: the devices that the library sees, and how many layers of a model go to them.

llama-cpp-python binds none of ``ggml-backend.h``; the functions are the library's own, called through ctypes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.engine.spec import EngineSpec
from runner.gguf import Gguf
from runner.scheduler.memory import key_value_bytes

CPU, ACCELERATOR = 0, 3  # enum ggml_backend_dev_type; 1 and 2 are GPUs, the second with the host's memory
KEPT_FREE = 0.1  # of a device's free memory: buffers for computing, and others who use it
OVERHEAD = 256 << 20  # bytes: a context's buffers on a device


@dataclass(frozen=True)
class Device:
    name: str
    description: str
    kind: int
    free: int  # bytes
    total: int

    @property
    def is_gpu(self) -> bool:
        return self.kind not in (CPU, ACCELERATOR)

    def words(self) -> str:
        if not self.is_gpu:
            return self.description or self.name
        return f"{self.name} ({self.description}, {self.free >> 20} of {self.total >> 20} MiB free)"


def devices(library: Any) -> list[Device]:
    """None where the library does not say."""
    try:
        ggml, base = (ctypes.CDLL(str(_place(library, name))) for name in ("libggml", "libggml-base"))
        for function in (ggml.ggml_backend_dev_get, base.ggml_backend_dev_name, base.ggml_backend_dev_description):
            function.restype = ctypes.c_void_p
        ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
        ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
        return [_device(base, ggml.ggml_backend_dev_get(i)) for i in range(ggml.ggml_backend_dev_count())]
    except (OSError, AttributeError):
        return []


def _place(library: Any, name: str) -> Path:
    folder = Path(library.__file__).parent / "lib"
    return next((p for p in sorted(folder.glob(f"{name}.*")) if p.suffix in (".so", ".dylib")), folder / f"{name}.so")


def _device(base: Any, handle: int) -> Device:
    pointer = ctypes.c_void_p(handle)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    base.ggml_backend_dev_memory(pointer, ctypes.byref(free), ctypes.byref(total))
    texts = [
        ctypes.string_at(f(pointer)).decode(errors="replace")
        for f in (base.ggml_backend_dev_name, base.ggml_backend_dev_description)
    ]
    return Device(texts[0], texts[1], int(base.ggml_backend_dev_type(pointer)), free.value, total.value)


@dataclass(frozen=True)
class Placement:
    gpu_layers: int  # as llama.cpp takes it: -1 for all
    words: str  # for people: what computes


def placement(found: Sequence[Device], weights: list[Gguf], spec: EngineSpec) -> Placement:
    """``spec.gpu_layers`` where a person chose; else as many as the devices' free memory takes."""
    layers = weights[0].of_architecture("block_count")
    count = layers if isinstance(layers, int) and 0 < layers < 1 << 16 else 0
    chosen = spec.gpu_layers
    if chosen < 0 and found:
        chosen = layers_that_fit(found, count, sum(w.size for w in weights), key_value_bytes(weights[0], spec))
    gpus = ", ".join(d.words() for d in found if d.is_gpu)
    if not gpus or chosen == 0:
        beside = f", {gpus} not used" if gpus else ""
        return Placement(chosen, f"the processor ({', '.join(d.words() for d in found if not d.is_gpu)}){beside}")
    share = "all layers" if chosen < 0 or chosen > count else f"{chosen} of {count} layers"
    return Placement(chosen, f"{share} on {gpus}")


def layers_that_fit(found: Sequence[Device], layers: int, weights: int, memory: int) -> int:
    """How many of a model's layers go to the GPUs: -1 for all (and what is beside the layers), 0 for none.

    ``weights``, ``memory``: bytes of the files, and of keys and values for all cells.
    """
    gpus = [d for d in found if d.is_gpu]
    room = sum(max(int(d.free * (1 - KEPT_FREE)) - OVERHEAD, 0) for d in gpus)
    if not gpus or layers < 1:
        return 0
    if weights + memory <= room:
        return -1
    each = (weights + memory) / (layers + 1)  # the output layer counts as one
    return min(int(room / each), layers)
