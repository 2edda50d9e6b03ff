"""Pictures into rows that the model reads as it reads tokens: llama.cpp's ``mtmd`` over a model's projector (``mtmd.h``).

One thread at a time may look: ``see`` takes from milliseconds to minutes, and is not to run on the writer's thread.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from runner.engine.model import Model, Tokens
from runner.engine.native import LogFilter, load_mtmd
from runner.engine.pictures import Picture, Positions, row_ids
from runner.engine.pixels import Pixels, decode
from runner.errors import EngineFailed, ImageInvalid, LoadFailed

KEPT_BYTES = 128 << 20  # of rows: in a conversation the same pictures come again with every question
Seen = list[Tokens | Picture]


class Vision:
    def __init__(self, model: Model, projector: Path, *, threads: int, gpu: bool, log: LogFilter) -> None:
        self._lib = load_mtmd()
        self._lib.mtmd_helper_log_set(log.callback, None)  # also sets mtmd's own
        params = self._lib.mtmd_context_params_default()
        params.use_gpu, params.print_timings, params.warmup, params.n_threads = gpu, False, False, threads
        self._context = self._lib.mtmd_init_from_file(str(projector).encode(), model.handle, params)
        if not self._context or not self._lib.mtmd_support_vision(self._context):
            raise LoadFailed(
                f"llama.cpp refuses the projector {projector.name[:12]}: it may be for another model, for sound, or damaged",
                remedy="the engine's last lines of output say more (hm model logs)",
            )
        self._model = model
        self._width = int(model.lib.llama_model_n_embd_inp(model.handle))
        self.sections = 4 if self._lib.mtmd_decode_use_mrope(self._context) else 1
        self.causal = not self._lib.mtmd_decode_use_non_causal(self._context, None)
        self._kept: OrderedDict[bytes, Seen] = OrderedDict()
        # A projector whose numbers do not fit together aborts the process at the first picture: let that be while it loads.
        self._look(np.full((64, 64, 3), 128, np.uint8), b"")

    def see(self, data: bytes) -> Seen:
        """What stands for a picture in a prompt: rows, with the tokens that this model wants around them.

        Raises ``ImageInvalid``, ``Unsupported`` or ``EngineFailed``.
        """
        digest = hashlib.sha256(data).digest()
        seen = self._kept.get(digest)
        if seen is None:
            seen = self._kept[digest] = self._look(decode(data), digest)
        self._kept.move_to_end(digest)
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return seen

    def _look(self, pixels: Pixels, digest: bytes) -> Seen:
        seen: Seen = []
        with self._chunks(pixels) as chunks:
            for index in range(self._lib.mtmd_input_chunks_size(chunks)):
                chunk = self._lib.mtmd_input_chunks_get(chunks, index)
                kind = self._lib.mtmd_input_chunk_get_type(chunk)
                if kind == self._lib.MTMD_INPUT_CHUNK_TYPE_TEXT:
                    seen.append(self._tokens(chunk))
                else:
                    seen.append(self._picture(chunk, digest, index))
        return seen

    @contextmanager
    def _chunks(self, pixels: Pixels) -> Iterator[Any]:
        lib = self._lib
        height, width, _ = pixels.shape
        bitmap = lib.mtmd_bitmap_init(width, height, pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
        chunks = lib.mtmd_input_chunks_init()
        try:
            part = lib.mtmd_input_part(None, bitmap)
            parts = (ctypes.POINTER(lib.mtmd_input_part) * 1)(ctypes.pointer(part))
            if lib.mtmd_tokenize_from_parts(self._context, chunks, parts, 1, False):
                raise ImageInvalid(
                    f"the model's projector refuses a picture of {width} x {height} pixels", remedy=_REMEDY
                )
            yield chunks
        finally:
            lib.mtmd_input_chunks_free(chunks)
            lib.mtmd_bitmap_free(bitmap)

    def _tokens(self, chunk: Any) -> Tokens:
        count = ctypes.c_size_t()
        pointer = self._lib.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
        return np.array(np.ctypeslib.as_array(pointer, (count.value,)), np.int32)

    def _picture(self, chunk: Any, digest: bytes, number: int) -> Picture:
        if self._lib.mtmd_encode_chunk(self._context, chunk):
            raise EngineFailed("llama.cpp could not compute the picture", remedy="try again, or send a smaller one")
        count = int(self._lib.mtmd_input_chunk_get_n_tokens(chunk))
        rows = np.array(np.ctypeslib.as_array(self._lib.mtmd_get_output_embd(self._context), (count, self._width)))
        if not np.isfinite(rows).all():
            raise EngineFailed("the model's projector gives no numbers for this picture", remedy="check its files")
        offsets, slopes = self._grid(chunk, count) if self.sections > 1 else (None, None)
        span = int(self._lib.mtmd_input_chunk_get_n_pos(chunk))
        causal = not self._lib.mtmd_decode_use_non_causal(self._context, chunk)
        return Picture(rows, row_ids(digest, number, count), span, offsets, slopes, causal)

    def _grid(self, chunk: Any, count: int) -> tuple[Positions, Positions]:
        """Each row's position by section, as it depends on where the picture starts: read at two starts."""
        image = self._lib.mtmd_input_chunk_get_tokens_image(chunk)
        at = [self._positions(image, start, count) for start in (0, 1)]
        return at[0], at[1] - at[0]

    def _positions(self, image: Any, start: int, count: int) -> Positions:
        table = (self._lib.mtmd_decoder_pos * count)()
        self._lib.mtmd_helper_image_get_decoder_pos(image, start, table)
        t, x, y, z = np.frombuffer(table, np.uint32).reshape(count, 4).T
        # The order in which llama.cpp reads them (``mtmd-helper-common.h``, ``set_position_mrope_2d``).
        return np.stack([t, y, x, z]).astype(np.int32)


_REMEDY = "send it smaller, or in another shape"


def _size(seen: Seen) -> int:
    return sum(part.rows.nbytes for part in seen if isinstance(part, Picture))
