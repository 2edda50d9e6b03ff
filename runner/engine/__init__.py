"""llama.cpp in a process of its own: one per loaded model.

The parent (``client``) starts ``python -m runner.engine`` and talks newline-delimited JSON over a Unix socket.  In the
child, the main thread does text (templates, tokens, UTF-8, stop strings, JSON) and one writer thread owns the llama
context: admit, batch, decode, sample.  Only modules that run in the child import ``llama_cpp``.
"""
