"""JSON values together with the bytes they were written as.

A registry that passes another's objects on must not change them: not the order of keys, not how a number is written,
not a character's escape.  So the objects are cut out of the response, not printed again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from catalog.errors import EntryUnreadable

_DECODER = json.JSONDecoder()
_SPACE = " \t\n\r"


@dataclass(frozen=True, slots=True)
class Raw:
    """A parsed value and its exact text."""

    value: Any
    text: str

    @property
    def data(self) -> bytes:
        return self.text.encode()


def parse(data: bytes) -> Raw:
    """The one JSON value in ``data``; raises ``EntryUnreadable``."""
    try:
        text = data.decode("utf-8")
        start = _skip(text, 0)
        value, end = _DECODER.raw_decode(text, start)
        if _skip(text, end) != len(text):
            raise ValueError("something follows the value")
    except (ValueError, RecursionError, IndexError) as e:
        raise EntryUnreadable(f"not JSON: {e}", remedy="ask the registry's operator") from e
    return Raw(value, text[start:end])


def members(raw: Raw) -> dict[str, Raw]:
    """The members of a JSON object; of a repeated key the last, as JSON parsers read it.  Empty for other values."""
    if not isinstance(raw.value, dict):
        return {}
    found: dict[str, Raw] = {}
    text, position = raw.text, _skip(raw.text, 1)
    while text[position] != "}":
        key, position = _DECODER.raw_decode(text, position)
        position = _skip(text, _skip(text, position) + 1)
        found[key], position = _value(text, position)
        position = _after(text, position)
    return found


def items(raw: Raw) -> list[Raw]:
    """The items of a JSON array; empty for other values."""
    if not isinstance(raw.value, list):
        return []
    found: list[Raw] = []
    text, position = raw.text, _skip(raw.text, 1)
    while text[position] != "]":
        item, position = _value(text, position)
        found.append(item)
        position = _after(text, position)
    return found


def _value(text: str, position: int) -> tuple[Raw, int]:
    value, end = _DECODER.raw_decode(text, position)
    return Raw(value, text[position:end]), end


def _after(text: str, position: int) -> int:
    """Past white space and one comma."""
    position = _skip(text, position)
    return _skip(text, position + 1) if text[position] == "," else position


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position
