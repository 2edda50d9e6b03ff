"""JSON that can be read in one way only.

A signed document that two parsers read differently is a way past a signature: the one that verifies sees the first of
two equal keys, the one that uses it sees the second.  So duplicate keys, NaN, invalid UTF-8, excessive depth and size
are refused before anything else looks at the bytes.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn


class JsonRefused(ValueError):
    """The text is not JSON, or not unambiguous JSON; the message says why."""


def loads(raw: bytes, *, limit: int) -> Any:
    """Parse ``raw``, at most ``limit`` bytes of UTF-8 JSON; raises ``JsonRefused``."""
    if len(raw) > limit:
        raise JsonRefused(f"it has {len(raw)} bytes; the limit is {limit}")
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as e:
        raise JsonRefused(f"it is not UTF-8: {e.reason} at byte {e.start}") from e
    except json.JSONDecodeError as e:
        raise JsonRefused(f"it is not JSON: {e}") from e
    except RecursionError as e:
        raise JsonRefused("it is nested too deeply") from e
    except ValueError as e:
        raise JsonRefused(str(e)) from e


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonRefused(f"the key {twice[:100]!r} appears twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise JsonRefused(f"{name} is not JSON")
