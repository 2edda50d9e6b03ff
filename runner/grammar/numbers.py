"""Grammars of whole numbers within bounds, and of numbers."""

from __future__ import annotations

import math

from runner.grammar.nodes import EMPTY, Node, Repeat, Terminal, choice, optional, seq

MAX_DIGITS = 15  # 2**53 has 16: all shorter whole numbers are exact in JavaScript and in doubles
_DIGIT = Terminal("[0-9]")
_FRACTION = seq(".", Repeat(_DIGIT, 1, MAX_DIGITS))
_EXPONENT = seq(Terminal("[eE]"), optional(Terminal("[-+]")), Terminal("[0-9]"), optional(_DIGIT))


def whole(least: int | None, most: int | None) -> Node | None:
    """Whole numbers from ``least`` to ``most``; None when there are none."""
    top = 10**MAX_DIGITS - 1
    low = -top if least is None else max(least, -top)
    high = top if most is None else min(most, top)
    if low > high:
        return None
    options: list[Node] = []
    if low < 0:
        options.append(seq("-", _digits(max(1, -min(high, -1)), -low)))
    if high >= 0:
        options.append(_digits(max(low, 0), high))
    return choice(options)


def number(least: float | None, most: float | None) -> Node | None:
    """Numbers from ``least`` to ``most``: any whole part whose fractions all stay inside, and the whole ones at the ends.

    Exponents only where there are no bounds.  None when no number of this form fits.
    """
    if least is None and most is None:
        part = _digits(0, 10**MAX_DIGITS - 1)
        return seq(optional(seq("-")), part, optional(_FRACTION), optional(_EXPONENT))
    low = None if least is None else math.ceil(least)
    high = None if most is None else math.floor(most)
    options: list[Node] = []
    exact = whole(low, high)
    if exact is not None:
        options.append(exact)
    if high is None or high >= 1:
        positive = whole(max(low or 0, 0), None if high is None else high - 1)
        if positive is not None and (low is None or high is None or max(low, 0) <= high - 1):
            options.append(seq(positive, _FRACTION))
    if low is None or low <= -1:
        # -n.f lies in (-(n+1), -n]: n runs from max(-high, 0) to -low - 1
        start = 0 if high is None else max(-high, 0)
        negative = whole(start, None if low is None else -low - 1)
        if negative is not None and (high is None or high >= 0 or start >= -high):
            options.append(seq("-", negative, _FRACTION))
    return choice(options) if options else None


def _digits(low: int, high: int) -> Node:
    """Decimal numbers from ``low`` to ``high`` (both at least 0), without leading zeros."""
    if low == 0 and high == 10 ** len(str(high)) - 1:
        more = Repeat(_DIGIT, 0, len(str(high)) - 1) if high > 9 else EMPTY
        return choice([seq("0"), seq(Terminal("[1-9]"), more)])
    options: list[Node] = []
    while low <= high:
        size = len(str(low))
        top = min(high, 10**size - 1)
        options.extend(_same_length(str(low), str(top)))
        low = 10**size
    return choice(options)


def _same_length(low: str, high: str) -> list[Node]:
    if not low:
        return [EMPTY]
    if low[0] == high[0]:
        return [seq(low[0], rest) for rest in _same_length(low[1:], high[1:])]
    size = len(low) - 1
    first, last = int(low[0]), int(high[0])
    options: list[Node] = []
    if low[1:] != "0" * size:
        options.extend(seq(low[0], rest) for rest in _same_length(low[1:], "9" * size))
        first += 1
    if high[1:] != "9" * size:
        options.extend(seq(high[0], rest) for rest in _same_length("0" * size, high[1:]))
        last -= 1
    if first <= last:
        rest = Repeat(_DIGIT, size, size) if size else EMPTY
        options.append(seq(Terminal(f"[{first}-{last}]"), rest))
    return options
