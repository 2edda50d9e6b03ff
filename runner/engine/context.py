"""A llama context, its batch as numpy arrays, its key-value memory.  Owned by the writer thread."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runner.engine.model import Model, Tokens
from runner.engine.pictures import Glance, together
from runner.errors import LoadFailed

PHYSICAL_BATCH = 512  # tokens that are computed at once, llama.cpp's default ``n_ubatch``
MAX_VIEWS = 1024  # more than there are outputs; the library moves them when it needs more room
DECODED = 0  # return values of llama_decode (llama.h)
NO_SLOT = 1
ABORTED = 2


class Batch:
    """Arrays that the library reads in place: filling one is a few numpy assignments, not a call per token."""

    def __init__(self, library: Any, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self._token = np.zeros(capacity, np.int32)
        self._pos = np.zeros(capacity, np.int32)
        self._seq = np.zeros(capacity, np.int32)
        self._logits = np.zeros(capacity, np.int8)
        ones = np.ones(capacity, np.int32)
        # seq_id is an array of pointers; each points at its own element of _seq.
        pointers = self._seq.ctypes.data + np.arange(capacity, dtype=np.uintp) * self._seq.itemsize
        self._kept = (ones, pointers)
        self.struct = library.llama_batch()
        self.struct.embd = None
        for name, array in (("token", self._token), ("pos", self._pos), ("n_seq_id", ones), ("logits", self._logits)):
            setattr(self.struct, name, ctypes.cast(array.ctypes.data, type(getattr(self.struct, name))))
        self.struct.seq_id = ctypes.cast(pointers.ctypes.data, type(self.struct.seq_id))

    def clear(self) -> None:
        self.count = 0

    def add_ones(self, slots: list[int], tokens: list[int], positions: list[int]) -> None:
        """Append one token of each sequence, all with logits."""
        start, end = self.count, self.count + len(slots)
        self._token[start:end] = tokens
        self._pos[start:end] = positions
        self._seq[start:end] = slots
        self._logits[start:end] = 1
        self.count = end

    def add(self, slot: int, tokens: Tokens, position: int, *, output: bool, all_outputs: bool = False) -> int:
        """Append ``tokens`` of one sequence; returns the index of the last, whose logits come out if ``output``."""
        start, end = self.count, self.count + len(tokens)
        self._token[start:end] = tokens
        self._pos[start:end] = np.arange(position, position + len(tokens), dtype=np.int32)
        self._seq[start:end] = slot
        self._logits[start:end] = 1 if all_outputs else 0
        if output:
            self._logits[end - 1] = 1
        self.count = end
        return end - 1


class Context:
    def __init__(
        self, model: Model, *, cells: int, batch: int, sequences: int, outputs: int, threads: int, embeds: bool = False
    ) -> None:
        lib = self.lib = model.lib
        self._model = model
        params = lib.llama_context_default_params()
        params.n_ctx = cells
        params.n_batch = batch
        params.n_ubatch = batch if embeds else min(batch, PHYSICAL_BATCH)
        params.n_seq_max = sequences
        params.n_outputs_max = 0 if embeds else outputs
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        params.swa_full = True  # prefixes are shared and cut at any place, which a sliding cache cannot do
        params.no_perf = True
        params.embeddings = embeds
        if embeds:
            params.pooling_type = _pooling(model)
        self.handle = lib.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise LoadFailed(
                f"no memory for a context of {cells} tokens",
                remedy="ask for a smaller context (hm model configure --context-size)",
                context_tokens=cells,
            )
        model.adapt(self.handle)
        self.cells = int(lib.llama_n_ctx(self.handle))
        self.most_tokens = int(lib.llama_n_batch(self.handle))  # in one decode
        self.memory = lib.llama_get_memory(self.handle)
        self.batch = Batch(lib, batch)
        self._views: dict[int, npt.NDArray[np.float32]] = {}  # of logits, by address
        # As the library's own, but for the pointer, which comes as a number: this is asked for every token.
        address = ctypes.cast(lib.llama_get_logits_ith, ctypes.c_void_p).value
        self._logits_at = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)(address or 0)

    def decode(self) -> int:
        self.batch.struct.n_tokens = self.batch.count
        return int(self.lib.llama_decode(self.handle, self.batch.struct))

    def look(self, glances: Sequence[Glance]) -> int:
        """Decode rows of pictures, which cannot be in one batch with tokens; no logits come out."""
        rows, positions, slots = together(glances)
        count = len(rows)
        ones, outputs = np.ones(count, np.int32), np.zeros(count, np.int8)
        pointers = slots.ctypes.data + np.arange(count, dtype=np.uintp) * slots.itemsize
        batch = self.lib.llama_batch()
        batch.n_tokens, batch.token = count, None
        for name, array in (
            ("embd", rows), ("pos", positions), ("n_seq_id", ones), ("seq_id", pointers), ("logits", outputs)
        ):  # fmt: skip
            setattr(batch, name, ctypes.cast(array.ctypes.data, type(getattr(batch, name))))
        if glances[0].causal:
            return int(self.lib.llama_decode(self.handle, batch))
        self.lib.llama_set_causal_attn(self.handle, False)
        try:
            return int(self.lib.llama_decode(self.handle, batch))
        finally:
            self.lib.llama_set_causal_attn(self.handle, True)

    def forget(self, slot: int, start: int = 0) -> bool:
        """Drop a sequence's cells from position ``start`` on; False where this memory cannot drop a tail."""
        return bool(self.lib.llama_memory_seq_rm(self.memory, slot, start, -1))

    def copy(self, source: int, target: int, count: int) -> None:
        """Let ``target`` share ``source``'s first ``count`` cells."""
        self.lib.llama_memory_seq_cp(self.memory, source, target, 0, count)

    def save(self, slot: int) -> npt.NDArray[np.uint8] | None:
        """A copy of a sequence's cells; None where the library gives none."""
        size = int(self.lib.llama_state_seq_get_size(self.handle, slot))
        state = np.empty(size, np.uint8)
        written = self.lib.llama_state_seq_get_data(self.handle, _bytes(state), size, slot)
        return state if written == size else None

    def restore(self, slot: int, state: npt.NDArray[np.uint8]) -> bool:
        """Put a copy back, into an empty sequence; False where there is no room for it in one piece."""
        return bool(self.lib.llama_state_seq_set_data(self.handle, _bytes(state), len(state), slot))

    def clear(self) -> None:
        if self.memory:
            self.lib.llama_memory_clear(self.memory, False)

    def logits(self, index: int) -> npt.NDArray[np.float32]:
        """A view that the next decode overwrites."""
        address = self._logits_at(self.handle, index)
        view = self._views.get(address)
        if view is None:
            if len(self._views) >= MAX_VIEWS:
                self._views.clear()
            memory = (ctypes.c_float * self._model.size).from_address(address)
            view = self._views[address] = np.ctypeslib.as_array(memory)
        return view

    def pooled(self, slot: int, width: int) -> npt.NDArray[np.float32]:
        pointer = self.lib.llama_get_embeddings_seq(self.handle, slot)
        if not pointer:
            raise LoadFailed("the model gives no pooled embedding", remedy="use an embedding model")
        return np.array(np.ctypeslib.as_array(pointer, (width,)))

    def close(self) -> None:
        if self.handle:
            self.lib.llama_free(self.handle)
            self.handle = None


def _bytes(array: npt.NDArray[np.uint8]) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def _pooling(model: Model) -> int:
    """What the model's metadata names; the mean where it names nothing (a chat model)."""
    named = model.meta(f"{model.facts.architecture}.pooling_type")
    unspecified, mean = model.lib.LLAMA_POOLING_TYPE_UNSPECIFIED, model.lib.LLAMA_POOLING_TYPE_MEAN
    return int(unspecified if named and named != "0" else mean)
