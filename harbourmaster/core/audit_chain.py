"""The audit's records on disk: hash-chained JSON lines.  Pure: bytes in, bytes out.

A record is one line, ``{...fields..., "hash": ...}``: RFC 8785 canonical JSON of the record without ``hash``, then the
hash spliced in as the last key.  ``hash`` is the sha256 of exactly those canonical bytes, ``prev`` the hash of the record
before, so nothing in the middle can be edited, removed or moved without every later hash changing.

Records are flat and their values are restricted to what ``orjson`` writes canonically (RFC 8785 section 3.2), which is
why the fast writer and a slow canonicaliser agree: ASCII keys, integers below 2**53, fractions of three decimals.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from typing import Any

import orjson

from harbourmaster.core.errors import HarbourError

GENESIS = "0" * 64
MAX_INT = (1 << 53) - 1  # RFC 8785 section 3.2.2.3: beyond it, numbers are not exact
MAX_TEXT = 4096  # characters in one value: names, digests and codes, never argument values
MAX_ITEMS = 256  # values in one list
MAX_LINE = 4 << 20  # bytes; 64 fields of the largest list would still fit
MAX_FIELDS = 64
RESERVED = frozenset({"seq", "ts", "prev", "hash"})
NOTICE = "audit"  # kind of the records that the audit writes about itself

_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_known_keys: set[str] = set()


class AuditRecordInvalid(HarbourError):
    """The program tried to record something that is not a flat record."""

    code = "audit.record_invalid"


@dataclass(frozen=True)
class ChainEnd:
    """Where the chain stands: sequence number and hash of the last record."""

    seq: int = 0
    hash: str = GENESIS


def checked(record: dict[str, Any]) -> dict[str, Any]:
    """A copy of ``record`` that is known to serialise; raises ``AuditRecordInvalid``.  On the path of every call."""
    if type(record.get("kind")) is not str or record["kind"] == NOTICE or len(record) > MAX_FIELDS:
        raise _invalid(f"it has no kind of its own, or over {MAX_FIELDS} fields")
    if not record.keys() <= _known_keys:
        for key in record:
            _learn(key)
    copy = dict(record)
    for key, value in record.items():
        kind = type(value)
        if kind is str:
            if len(value) > MAX_TEXT or not (value.isascii() or _encodes(value)):
                raise _invalid(f"the text in {key} is too long or not Unicode")
        else:
            copy[key] = _plain(key, value)
    return copy


def encoded(moment: float, record: dict[str, Any]) -> bytes:
    """``orjson.dumps((moment, checked(record)))`` with a newline, for records of a page at most at a third of the cost: no
    text of theirs can be too long, and the encoder refuses what is not Unicode."""
    usual = type(record.get("kind")) is str and record["kind"] != NOTICE and len(record) <= MAX_FIELDS
    if usual and record.keys() <= _known_keys:
        for key, value in record.items():
            if type(value) is not str and (plain := _plain(key, value)) is not value:
                record = {**record, key: plain}
        try:
            line = orjson.dumps((moment, record), option=orjson.OPT_APPEND_NEWLINE)
        except TypeError:
            raise _invalid("a text in it is not Unicode") from None
        if len(line) <= MAX_TEXT:
            return line
    return orjson.dumps((moment, checked(record)), option=orjson.OPT_APPEND_NEWLINE)


def _plain(key: str, value: Any) -> Any:
    """``value``, which is no text, as a record can hold it."""
    if type(value) is float:
        return _fraction(key, value)
    return value if value is None or type(value) is bool else _number_or_list(key, value)


def _learn(key: Any) -> None:
    if not isinstance(key, str) or not _KEY.fullmatch(key) or key in RESERVED:
        raise _invalid(f"{key!r} cannot be the name of a field")
    if len(_known_keys) < 4096:
        _known_keys.add(key)


def _number_or_list(key: str, value: Any) -> Any:
    if isinstance(value, int):
        if not -MAX_INT <= value <= MAX_INT:
            raise _invalid(f"the number in {key} is too large")
        return int(value)
    if isinstance(value, float):
        return _fraction(key, value)
    if isinstance(value, str):
        return checked({"kind": str(value)})["kind"]
    if isinstance(value, list | tuple) and len(value) <= MAX_ITEMS:
        return [checked({"kind": item})["kind"] for item in value]
    raise _invalid(f"{key} holds a {type(value).__name__}; records are flat (text, numbers, lists of text)")


def _fraction(key: str, value: float) -> int | float:
    """Three decimals, and no fraction where there is none: within these bounds orjson and RFC 8785 write the same."""
    if not -1e12 < value < 1e12:  # also false for NaN
        raise _invalid(f"the number in {key} is not finite or too large")
    rounded = round(value, 3)
    if rounded.is_integer():
        return int(rounded)
    return value if rounded == value else rounded


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _invalid(why: str) -> AuditRecordInvalid:
    return AuditRecordInvalid(
        f"this audit record is refused: {why}", remedy="this is a fault in the program: report it"
    )


_second: tuple[int, str] = (0, "")


def timestamp(moment: float) -> str:
    """UTC, milliseconds: ``2026-11-21T12:00:00.123Z``."""
    global _second
    whole = int(moment)
    if _second[0] != whole:
        _second = (whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)))
    return f"{_second[1]}.{int((moment - whole) * 1000):03d}Z"


def seal(end: ChainEnd, moment: float, record: dict[str, Any]) -> tuple[bytes, ChainEnd]:
    """The line (with its newline) for a ``checked`` record, and the chain's new end."""
    seq = end.seq + 1
    body = orjson.dumps({**record, "seq": seq, "ts": timestamp(moment), "prev": end.hash}, option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(body).hexdigest()
    return b'%b,"hash":"%b"}\n' % (body[:-1], digest.encode()), ChainEnd(seq, digest)


def unseal(line: bytes) -> dict[str, Any] | None:
    """The record in ``line`` (without its newline) if it is exactly as ``seal`` wrote it, whatever its place; else None."""
    body, _, tail = line.rpartition(b',"hash":"')
    digest = tail[:64]
    if tail[64:] != b'"}' or hashlib.sha256(body + b"}").hexdigest().encode() != digest:
        return None
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not _is_record(record):
        return None
    # The same bytes again: no duplicate key, no other spelling of a number or a text.
    rest = {key: value for key, value in record.items() if key != "hash"}
    return record if orjson.dumps(rest, option=orjson.OPT_SORT_KEYS) == body + b"}" else None


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    texts = all(isinstance(record.get(name), str) for name in ("ts", "kind", "prev", "hash"))
    return texts and type(record.get("seq")) is int and bool(_HASH.fullmatch(record["prev"]))
