"""Frames between parent and engine: one JSON object per line over a Unix socket.

Parent to engine: ``{"op", "id", ...}``.  Engine to parent: ``{"id", "ev", ...}`` with ``ev`` one of ``ready``, ``delta``,
``done``, ``result``, ``error``; or, for the texts that one step has added to several requests, ``{"ev": "step", "ids", "texts"}``.
JSON escapes newlines inside texts, so a line is a frame.
"""

from __future__ import annotations

from typing import Any

import orjson

from runner.errors import EngineFailed

MAX_FRAME = 64 << 20  # bytes: a 10 MiB request with images in base64 and its escapes, with room


def encode(frame: dict[str, Any]) -> bytes:
    return orjson.dumps(frame, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def decode(line: bytes) -> dict[str, Any]:
    try:
        frame = orjson.loads(line)
    except orjson.JSONDecodeError as e:
        raise EngineFailed(f"a frame is not JSON: {e}") from e
    if not isinstance(frame, dict):
        raise EngineFailed("a frame is not an object")
    return frame
