"""Grammars of JSON strings: by length, by pattern, by format.

A pattern becomes a grammar of the characters between the quotes.  What it leaves open (``.``, ``\\w``, a class) is
narrowed to characters that JSON writes without an escape: every text that comes out matches, not every match comes out.
"""

from __future__ import annotations

import re
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any

from runner.grammar.nodes import CHARACTER, EMPTY, MAX_REPEAT, Node, Repeat, Terminal, choice, seq

_PLAIN = r'[^"\\\x00-\x1F\x7F]'
_DIGITS, _WORD, _SPACE = "0-9", "a-zA-Z0-9_", " "
MAX_PATTERN = 2000  # characters
MAX_PARTS = 5000


class NotExpressible(Exception):
    """A pattern that no grammar of ours expresses (look-around, back-references, word boundaries)."""


def plain(least: int, most: int | None) -> Node:
    """A string of ``least`` to ``most`` characters."""
    if most is not None and most > MAX_REPEAT:
        most = MAX_REPEAT  # narrower than asked, never wider
    return seq('"', Repeat(CHARACTER, least, most), '"')


def of_format(name: str) -> Node | None:
    """``date``, ``time``, ``date-time`` (RFC 3339) and ``uuid`` (RFC 9562); None for other formats."""
    body = _FORMATS.get(name)
    return seq('"', body, '"') if body is not None else None


def matching(pattern: str) -> Node:
    """A string that matches ``pattern`` (ECMA 262 as far as Python's ``re`` reads it); raises ``NotExpressible``."""
    if len(pattern) > MAX_PATTERN:
        raise NotExpressible("the pattern is too long")
    try:
        parsed = sre_parser.parse(pattern, re.ASCII)
    except (re.error, RecursionError, OverflowError) as e:
        raise NotExpressible(f"the pattern does not parse: {e}") from e
    if parsed.state.groupdict or parsed.state.flags & (re.IGNORECASE | re.MULTILINE | re.VERBOSE):
        raise NotExpressible("named groups and flags are not supported")
    items = list(parsed)
    start = bool(items) and items[0] == (sre.AT, sre.AT_BEGINNING)
    end = bool(items) and items[-1] == (sre.AT, sre.AT_END)
    body = items[1 if start else 0 : len(items) - 1 if end else len(items)]
    if not start and len(body) == 1 and body[0][0] is sre.BRANCH:
        raise NotExpressible("alternatives outside of a group are not supported")
    counter = [0]
    anything = Repeat(Terminal(_PLAIN), 0, MAX_REPEAT)
    node = _all(body, counter)
    return seq('"', *([] if start else [anything]), node, *([] if end else [anything]), '"')


def _all(items: list[Any], counter: list[int]) -> Node:
    parts = [_one(op, argument, counter) for op, argument in items]
    return seq(*parts) if parts else EMPTY


def _one(op: Any, argument: Any, counter: list[int]) -> Node:
    counter[0] += 1
    if counter[0] > MAX_PARTS:
        raise NotExpressible("the pattern is too complex")
    if op is sre.LITERAL:
        return _literal(argument)
    if op is sre.ANY:
        return Terminal(_PLAIN)
    if op is sre.NOT_LITERAL:
        return Terminal(f'[^"\\\\\\x00-\\x1F\\x7F{_in_class(argument)}]')
    if op is sre.IN:
        return _class(argument)
    if op is sre.BRANCH:
        return choice([_all(list(branch), counter) for branch in argument[1]])
    if op is sre.SUBPATTERN:
        return _all(list(argument[3]), counter)
    if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        least, most, inner = argument
        if least > MAX_REPEAT:
            raise NotExpressible(f"more than {MAX_REPEAT} repetitions")
        unbounded = most is sre.MAXREPEAT
        return Repeat(_all(list(inner), counter), least, None if unbounded else min(int(most), MAX_REPEAT))
    raise NotExpressible(f"{str(op).lower()} is not supported in patterns")


def _literal(code: int) -> Node:
    char = chr(code)
    if char in '"\\':
        return seq("\\" + char)
    if code < 32 or code == 127 or 0xD800 <= code <= 0xDFFF:
        return seq(f"\\u{code:04x}")
    return seq(char)


def _class(items: list[Any]) -> Node:
    negated = bool(items) and items[0][0] is sre.NEGATE
    inside, escaped = "", []
    for op, argument in items[1:] if negated else items:
        if op is sre.LITERAL:
            if not negated and (chr(argument) in '"\\' or argument < 32):
                escaped.append(_literal(argument))
            else:
                inside += _in_class(argument)
        elif op is sre.RANGE:
            inside += _range(*argument, whole=negated)
        elif op is sre.CATEGORY:
            inside += _category(argument)
        else:
            raise NotExpressible("that class is not supported in patterns")
    if negated:
        return Terminal(f'[^"\\\\\\x00-\\x1F\\x7F{inside}]')
    options: list[Node] = [Terminal(f"[{inside}]")] if inside else []
    if not options and not escaped:
        raise NotExpressible("an empty class")
    return choice([*options, *escaped])


def _range(low: int, high: int, *, whole: bool) -> str:
    """Without the quote, the backslash and control characters, unless the class is negated anyway."""
    if whole:
        return f"{_in_class(low)}-{_in_class(high)}"
    pieces, start = "", max(low, 32)
    for hole in (0x22, 0x5C, 0x7F):
        if start <= hole <= high:
            if start < hole:
                pieces += f"{_in_class(start)}-{_in_class(hole - 1)}"
            start = hole + 1
    return pieces + (f"{_in_class(start)}-{_in_class(high)}" if start <= high else "")


def _category(kind: Any) -> str:
    known = {sre.CATEGORY_DIGIT: _DIGITS, sre.CATEGORY_WORD: _WORD, sre.CATEGORY_SPACE: _SPACE}
    if kind not in known:
        raise NotExpressible("\\D, \\W and \\S are not supported in classes")
    return known[kind]


def _in_class(code: int) -> str:
    char = chr(code)
    if char in ']^-\\"[' or code < 32 or code == 127:
        return f"\\x{code:02X}"
    if 0xD800 <= code <= 0xDFFF:
        raise NotExpressible("surrogates are no characters")
    return char if code < 127 else (f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}")


def _rfc3339() -> dict[str, Node]:
    month = '("0" [1-9] | "1" [0-2])'
    day = '("0" [1-9] | "1" [0-9] | "2" [0-8])'  # every month has 28 days: narrower, never a day that is not there
    date = Terminal(f'[0-9]{{4}} "-" {month} "-" {day}'.replace("[0-9]{4}", '"20" [0-9] [0-9]'))
    clock = '("0" [0-9] | "1" [0-9] | "2" [0-3]) ":" [0-5] [0-9]'
    time = Terminal(f'{clock} ":" [0-5] [0-9] ("." [0-9]{{1,6}})? ("Z" | [+-] {clock})')
    hexes = "[0-9a-f]"
    uuid = Terminal(f'{hexes}{{8}} "-" {hexes}{{4}} "-4" {hexes}{{3}} "-" [89ab] {hexes}{{3}} "-" {hexes}{{12}}')
    return {"date": date, "time": time, "date-time": seq(date, "T", time), "uuid": uuid}


_FORMATS = _rfc3339()
