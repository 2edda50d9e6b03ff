"""Canonical JSON (RFC 8785, JCS): the one byte string that is hashed for pins, profiles, policies and the audit.

orjson with sorted keys writes the same bytes many times faster, but for what ``_ODD_NUMBER`` and ``_sorts_otherwise`` look for.
Where that is found, the value is taken apart, and its odd parts are left to the slow canonicaliser.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson
import rfc8785

from harbourmaster.core.digests import sha256

_OPTIONS: Final = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)
_LEVELS: Final = 6  # so deep a value is taken apart: down to a property of a tool's schema

# In orjson's output: a fraction, an exponent, or digits enough to leave 2**53.  ECMAScript writes those in a way of its own
# (RFC 8785 section 3.2.2.3), or not at all; and null, which orjson writes for what is no number.  It may find what stands in
# a string; it cannot miss a number.
_ODD_NUMBER: Final = re.compile(rb"(?:^|[:,\[])(?:null|-?(?:\d{16}|\d+[.eE]))")
_PLANES: Final = re.compile(rb"[\xf0-\xf4]")  # UTF-8 of what UTF-16 writes as surrogates, 0xD800..0xDFFF
_BEHIND_SURROGATES: Final = re.compile(rb"[\xee\xef]")  # UTF-8 of U+E000..U+FFFF


def canonical(value: Any) -> bytes:
    """Raises ``ValueError`` for what JSON, or I-JSON (RFC 7493), cannot hold."""
    return _canonical(value, _LEVELS)


def canonical_digest(value: Any) -> str:
    return sha256(canonical(value))


def _canonical(value: Any, levels: int) -> bytes:
    raw = _fast(value)
    if raw is not None:
        return raw
    if levels and type(value) is list:
        return b"[" + b",".join([_canonical(each, levels - 1) for each in value]) + b"]"
    if levels and type(value) is dict and all(type(key) is str for key in value):
        items = sorted(value.items(), key=lambda item: item[0].encode("utf-16be"))  # RFC 8785 section 3.2.3
        return b"{" + b",".join([orjson.dumps(k) + b":" + _canonical(v, levels - 1) for k, v in items]) + b"}"
    return rfc8785.dumps(value)


def _fast(value: Any) -> bytes | None:
    """Canonical bytes, or None where orjson's may not be."""
    try:
        raw = orjson.dumps(value, option=_OPTIONS)
    except TypeError:
        return None
    return None if _sorts_otherwise(raw) or _ODD_NUMBER.search(raw) else raw


def _sorts_otherwise(raw: bytes) -> bool:
    """Whether keys may be in another order by code point, which is orjson's, than by UTF-16 code unit, which is RFC 8785's."""
    return not raw.isascii() and bool(_PLANES.search(raw) and _BEHIND_SURROGATES.search(raw))
