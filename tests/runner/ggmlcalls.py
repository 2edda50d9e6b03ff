"""ggml's own public C functions on the installed engine's libraries: one operation at a time, numbers in and out."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

F32, F16, Q4_1, Q8_0, I32 = 0, 1, 3, 8, 26  # enum ggml_type
ROOM = 1 << 20  # bytes: the descriptions of some tensors and a graph; their numbers lie elsewhere

Pointer = ctypes.c_void_p
_TENSORS = [Pointer] * 2
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "ggml_new_tensor": (Pointer, [Pointer, ctypes.c_int, ctypes.c_int, Pointer]),
    "ggml_permute": (Pointer, [Pointer, Pointer, *[ctypes.c_int] * 4]),
    "ggml_view_2d": (Pointer, [Pointer, Pointer, *[ctypes.c_int64] * 2, *[ctypes.c_size_t] * 2]),
    "ggml_mul_mat": (Pointer, [Pointer, *_TENSORS]),
    "ggml_mul_mat_id": (Pointer, [Pointer, *_TENSORS, Pointer]),
    "ggml_flash_attn_ext": (Pointer, [Pointer, *_TENSORS * 2, *[ctypes.c_float] * 3]),
    "ggml_flash_attn_ext_add_sinks": (None, _TENSORS),
    "ggml_new_graph": (Pointer, [Pointer]),
    "ggml_build_forward_expand": (None, [Pointer, Pointer]),
    "ggml_free": (None, [Pointer]),
    "ggml_backend_alloc_ctx_tensors_from_buft": (Pointer, [Pointer, Pointer]),
    "ggml_backend_buffer_free": (None, [Pointer]),
    "ggml_backend_buft_name": (ctypes.c_char_p, [Pointer]),
    "ggml_backend_cpu_buffer_type": (Pointer, []),
    "ggml_backend_tensor_set": (None, [Pointer, Pointer, ctypes.c_size_t, ctypes.c_size_t]),
    "ggml_backend_tensor_get": (None, [Pointer, Pointer, ctypes.c_size_t, ctypes.c_size_t]),
    "ggml_backend_graph_compute": (ctypes.c_int, [Pointer, Pointer]),
    "ggml_backend_reg_dev_get": (Pointer, [Pointer, ctypes.c_size_t]),
    "ggml_backend_reg_get_proc_address": (Pointer, [Pointer, ctypes.c_char_p]),
    "ggml_backend_dev_supports_op": (ctypes.c_bool, [Pointer, Pointer]),
    "ggml_backend_cpu_init": (Pointer, []),
    "ggml_backend_cpu_reg": (Pointer, []),
    "ggml_backend_cpu_set_n_threads": (None, [Pointer, ctypes.c_int]),
    "ggml_cpu_has_avx512_vnni": (ctypes.c_int, []),
}


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", Pointer), ("no_alloc", ctypes.c_bool))


@dataclass(frozen=True)
class Tensor:
    handle: int
    shape: tuple[int, ...]  # as numpy has it: ggml's sizes from the last to the first


class Ggml:
    """The libraries, and one backend that computes on the processor."""

    def __init__(self, folder: Path) -> None:
        self._libraries = [ctypes.CDLL(str(_library(folder, name))) for name in ("libggml-base", "libggml-cpu")]
        self._functions = {name: self._function(name) for name in _SIGNATURES}
        self._init = self._libraries[0].ggml_init
        self._init.restype, self._init.argtypes = Pointer, [_InitParams]
        self.backend = self("ggml_backend_cpu_init")
        self.plain = self("ggml_backend_cpu_buffer_type")

    def __call__(self, function: str, *arguments: Any) -> Any:
        return self._functions[function](*arguments)

    def _function(self, name: str) -> Any:
        found = next(getattr(lib, name) for lib in self._libraries if hasattr(lib, name))
        found.restype, found.argtypes = _SIGNATURES[name]
        return found

    def extra_buffer_types(self) -> dict[str, int]:
        """What else weights can be stored as, by name: ``CPU_REPACK`` is the interleaved one."""
        registered = self("ggml_backend_cpu_reg")
        address = self("ggml_backend_reg_get_proc_address", registered, b"ggml_backend_dev_get_extra_bufts")
        listed = ctypes.CFUNCTYPE(ctypes.POINTER(Pointer), Pointer)(address)(self.device)
        found: dict[str, int] = {}
        while (handle := listed[len(found)]) is not None:
            found[self("ggml_backend_buft_name", handle).decode()] = handle
        return found

    @property
    def device(self) -> int:
        return int(self("ggml_backend_reg_dev_get", self("ggml_backend_cpu_reg"), 0))

    def space(self) -> Space:
        return Space(self)

    def context(self) -> int:
        return int(self._init(_InitParams(ROOM, None, True)))


class Space:
    """Tensors that are allocated together, freed at the end of a ``with`` block."""

    def __init__(self, ggml: Ggml) -> None:
        self.ggml, self.context, self.buffer = ggml, ggml.context(), None

    def __enter__(self) -> Space:
        return self

    def __exit__(self, *_: object) -> None:
        if self.buffer:
            self.ggml("ggml_backend_buffer_free", self.buffer)
        self.ggml("ggml_free", self.context)

    def tensor(self, kind: int, *shape: int) -> Tensor:
        sizes = (ctypes.c_int64 * len(shape))(*reversed(shape))
        return Tensor(self.ggml("ggml_new_tensor", self.context, kind, len(shape), sizes), shape)

    def make(self, function: str, shape: Sequence[int], *arguments: Any) -> Tensor:
        """What an operation of ggml gives."""
        handles = [a.handle if isinstance(a, Tensor) else a for a in arguments]
        return Tensor(self.ggml(function, self.context, *handles), tuple(shape))

    def allocate(self, buffer_type: int) -> None:
        self.buffer = self.ggml("ggml_backend_alloc_ctx_tensors_from_buft", self.context, buffer_type)
        assert self.buffer

    def put(self, tensor: Tensor, values: np.ndarray[Any, Any]) -> None:
        whole = np.ascontiguousarray(values)
        self.ggml("ggml_backend_tensor_set", tensor.handle, whole.ctypes.data, 0, whole.nbytes)

    def compute(self, result: Tensor, threads: int) -> np.ndarray[Any, Any]:
        graph = self.ggml("ggml_new_graph", self.context)
        self.ggml("ggml_build_forward_expand", graph, result.handle)
        self.ggml("ggml_backend_cpu_set_n_threads", self.ggml.backend, threads)
        assert self.ggml("ggml_backend_graph_compute", self.ggml.backend, graph) == 0
        values = np.empty(result.shape, np.float32)
        self.ggml("ggml_backend_tensor_get", result.handle, values.ctypes.data, 0, values.nbytes)
        return values

    def supported(self, result: Tensor) -> bool:
        return bool(self.ggml("ggml_backend_dev_supports_op", self.ggml.device, result.handle))


def libraries() -> Path:
    """Where the engine's libraries are: ``LLAMA_CPP_LIB_PATH`` is llama-cpp-python's own variable."""
    found = importlib.util.find_spec("llama_cpp")
    assert found is not None
    assert found.origin is not None
    return Path(os.environ.get("LLAMA_CPP_LIB_PATH") or Path(found.origin).parent / "lib")


def _library(folder: Path, name: str) -> Path:
    """The file that the others are linked with (``.so.0``), so that it is loaded once."""
    return next(
        p for pattern in ("{}.so.0", "{}.0.dylib", "{}.so", "{}.dylib") if (p := folder / pattern.format(name)).exists()
    )
