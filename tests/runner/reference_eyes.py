"""llama.cpp's own way from a picture to probabilities, in a process of its own: ``python -m ... MODEL MMPROJ PICTURE PROMPT``.

Prints the natural logarithm of the probability of every token after PROMPT, in which ``<__media__>`` stands for the picture.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import numpy as np


def main(model_path: str, projector_path: str, picture_path: str, prompt: str) -> None:
    import llama_cpp as lib
    from llama_cpp import mtmd_cpp as eyes

    lib.llama_backend_init()
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(model_path.encode(), params)
    sizes = lib.llama_context_default_params()
    sizes.n_ctx, sizes.n_batch, sizes.n_ubatch, sizes.n_threads, sizes.n_threads_batch = 1024, 512, 512, 1, 1
    context = lib.llama_init_from_model(model, sizes)
    options = eyes.mtmd_context_params_default()
    options.use_gpu, options.print_timings, options.warmup, options.n_threads = False, False, False, 1
    sight = eyes.mtmd_init_from_file(projector_path.encode(), model, options)
    data = Path(picture_path).read_bytes()
    buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
    bitmap = eyes.mtmd_helper_bitmap_init_from_buf(sight, buffer, len(data), False)
    chunks = eyes.mtmd_input_chunks_init()
    text = eyes.mtmd_input_text(prompt.encode(), len(prompt.encode()), False, True)
    bitmaps = (ctypes.c_void_p * 1)(bitmap)
    assert eyes.mtmd_tokenize(sight, chunks, ctypes.byref(text), bitmaps, 1) == 0
    past = ctypes.c_int32(0)
    assert eyes.mtmd_helper_eval_chunks(sight, context, chunks, 0, 0, 512, True, ctypes.byref(past)) == 0
    words = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, -1), (words,)).astype(float)
    shifted = logits - logits.max()
    likelihood = shifted - np.log(np.exp(shifted).sum())
    tokens = eyes.mtmd_helper_get_n_tokens(chunks)
    sys.stdout.write(json.dumps({"tokens": int(tokens), "logprobs": likelihood.tolist()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
