"""The C library: imported here only, so that all else in the runner works without it."""

from __future__ import annotations

import sys
from typing import Any

from runner.errors import EngineMissing

_WARNING = 3  # enum ggml_log_level: 1 debug, 2 info, 3 warning, 4 error, 5 continues the line before
_CONTINUED = 5


def load_library() -> Any:
    """The ``llama_cpp`` module; raises ``EngineMissing``."""
    try:
        import llama_cpp
    except ImportError as e:
        raise engine_missing() from e
    return llama_cpp


def load_mtmd() -> Any:
    """The module of pictures and sound, which comes with ``llama_cpp``; raises ``EngineMissing``."""
    try:
        from llama_cpp import mtmd_cpp
    except (ImportError, OSError, FileNotFoundError, RuntimeError) as e:
        raise EngineMissing(
            f"this build of the engine reads no pictures: {e}", remedy="install it again: hm model install"
        ) from e
    return mtmd_cpp


def engine_missing() -> EngineMissing:
    return EngineMissing(
        "the model engine (llama-cpp-python) is not installed: it is compiled for this machine, which takes minutes",
        remedy="run: hm model install",
    )


class LogFilter:
    """Lets the library's warnings and errors through to stderr, whose tail explains a death."""

    def __init__(self, library: Any) -> None:
        self._last = 0
        self.callback = library.llama_log_callback(self._line)  # kept: the library holds a bare pointer to it
        library.llama_log_set(self.callback, None)

    def _line(self, level: int, text: bytes, _user: Any) -> None:
        if level != _CONTINUED:
            self._last = level
        if self._last >= _WARNING:
            sys.stderr.write(text.decode(errors="replace"))
            sys.stderr.flush()
