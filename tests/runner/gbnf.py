"""Texts that a GBNF grammar allows, drawn at random: enough of the language for what our compiler writes."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r'\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<cls>\[(?:[^\]\\]|\\.)*\])|(?P<name>[a-zA-Z][a-zA-Z0-9-]*)'
    r"|(?P<times>\{\d+(?:,\d*)?\})|(?P<op>[()|*+?]))"
)
_ESCAPE = re.compile(r"\\(x[0-9A-F]{2}|u[0-9A-F]{4}|U[0-9A-F]{8}|.)")
_UNIVERSE = [chr(c) for c in range(32, 127)] + ["é", "€", "\U0001f600"]


@dataclass
class Drawer:
    grammar: str
    chance: random.Random
    budget: int = 400  # choices after which the shortest way out is taken

    def __post_init__(self) -> None:
        self.rules = {}
        for line in self.grammar.splitlines():
            name, _, body = line.partition(" ::= ")
            parser = _Parser(body)
            self.rules[name] = parser.alternatives()
            assert not parser.rest(), f"cannot read {parser.rest()!r}"

    def draw(self) -> str:
        self.left = self.budget
        return self._draw(("ref", "root"), 0)

    def _draw(self, node: tuple, depth: int) -> str:
        kind, *rest = node
        self.left -= 1
        if kind == "text":
            return rest[0]
        if kind == "class":
            return self.chance.choice(rest[0])
        if kind == "ref":
            return self._draw(self.rules[rest[0]], depth + 1)
        if kind == "seq":
            return "".join(self._draw(part, depth) for part in rest[0])
        if kind == "alt":
            options = rest[0]
            if self.left < 0 or depth > 40:
                options = [min(options, key=self._weight)]
            return self._draw(self.chance.choice(options), depth)
        part, least, most = rest
        most = least + 3 if most is None else min(most, least + 3)
        count = least if self.left < 0 or depth > 40 else self.chance.randint(least, most)
        return "".join(self._draw(part, depth) for _ in range(count))

    def _weight(self, node: tuple, seen: frozenset[str] = frozenset()) -> int:
        kind, *rest = node
        if kind in ("text", "class"):
            return 1
        if kind == "ref":
            return 10_000 if rest[0] in seen else self._weight(self.rules[rest[0]], seen | {rest[0]})
        if kind == "seq":
            return sum(self._weight(p, seen) for p in rest[0])
        if kind == "alt":
            return min(self._weight(p, seen) for p in rest[0])
        return rest[1] * self._weight(rest[0], seen)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def rest(self) -> str:
        return self._text[self._at :].strip()

    def _peek(self) -> re.Match[str] | None:
        return _TOKEN.match(self._text, self._at)

    def alternatives(self) -> tuple:
        options = [self.sequence()]
        while (m := self._peek()) and m["op"] == "|":
            self._at = m.end()
            options.append(self.sequence())
        return options[0] if len(options) == 1 else ("alt", options)

    def sequence(self) -> tuple:
        parts: list[tuple] = []
        while (m := self._peek()) and m["op"] not in ("|", ")"):
            self._at = m.end()
            if m["string"]:
                parts.append(("text", _unescape(m["string"][1:-1])))
            elif m["cls"]:
                parts.append(("class", _members(m["cls"][1:-1])))
            elif m["name"]:
                parts.append(("ref", m["name"]))
            elif m["op"] == "(":
                parts.append(self.alternatives())
                closing = self._peek()
                assert closing
                assert closing["op"] == ")"
                self._at = closing.end()
            else:
                parts.append(_repeated(parts.pop(), m["times"] or m["op"]))
        return ("seq", parts)


def _repeated(part: tuple, times: str) -> tuple:
    if times in "*+?":
        return ("times", part, *{"*": (0, None), "+": (1, None), "?": (0, 1)}[times])
    least, comma, most = times[1:-1].partition(",")
    return ("times", part, int(least), (int(most) if most else None) if comma else int(least))


def _unescape(text: str) -> str:
    def one(m: re.Match[str]) -> str:
        code = m[1]
        return {"n": "\n", "t": "\t", "r": "\r"}.get(code) or (chr(int(code[1:], 16)) if len(code) > 1 else code)

    return _ESCAPE.sub(one, text)


def _members(inside: str) -> list[str]:
    negated = inside.startswith("^")
    codes: list[str] = []
    rest = inside[1:] if negated else inside
    items = re.findall(r"\\(?:x[0-9A-F]{2}|u[0-9A-F]{4}|U[0-9A-F]{8}|.)|.", rest, re.DOTALL)
    position, members = 0, set()
    while position < len(items):
        first = _unescape(items[position])
        if position + 2 < len(items) and items[position + 1] == "-":
            last = _unescape(items[position + 2])
            members.update(chr(c) for c in range(ord(first), min(ord(last), ord(first) + 300) + 1))
            position += 3
        else:
            members.add(first)
            position += 1
    codes = [c for c in _UNIVERSE if c not in members] if negated else sorted(members)
    assert codes, f"an empty class: [{inside}]"
    return codes
