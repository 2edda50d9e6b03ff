"""Resources that travel as base64 (2025-11-25, server/resources "Binary Content"), unpacked to be looked at.  Pure."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from typing import Any, Final

MARK: Final = b'"blob":"'  # how the gateway writes one
MAX_BYTES: Final = 8 << 20  # looked at in one answer; what is beyond is not


def blobs(value: Any) -> Iterator[bytes]:
    """The contents of every ``blob`` in ``value``, within ``MAX_BYTES``; what is no base64 is left out."""
    left = MAX_BYTES
    for text in _texts(value):
        try:
            data = binascii.a2b_base64(text[: left * 4 // 3 // 4 * 4])
        except (binascii.Error, ValueError):
            continue
        left -= len(data)
        yield data
        if left <= 0:
            return


def _texts(value: Any) -> Iterator[str]:
    todo = [value]
    while todo:
        each = todo.pop()
        if isinstance(each, dict):
            blob = each.get("blob")
            if isinstance(blob, str):
                yield blob
            todo += [inner for inner in each.values() if isinstance(inner, dict | list)]
        else:
            todo += [inner for inner in each if isinstance(inner, dict | list)]
