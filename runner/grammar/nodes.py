"""Grammars as trees, written as GBNF (llama.cpp's ``grammars/README.md``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_REPEAT = 1000  # llama.cpp refuses repetitions over 2,000 (MAX_REPETITION_THRESHOLD in llama-grammar.cpp)


@dataclass(frozen=True)
class Terminal:
    """GBNF for a text or a class of characters, such as ``"true"`` or ``[0-9]``."""

    gbnf: str


@dataclass(frozen=True)
class Ref:
    rule: str


@dataclass(frozen=True)
class Sequence:
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Choice:
    options: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    part: Node
    least: int
    most: int | None


Node = Terminal | Ref | Sequence | Choice | Repeat

EMPTY = Sequence(())


def text(value: str) -> Terminal:
    """Exactly these characters."""
    return Terminal('"' + "".join(_escaped(c) for c in value) + '"')


def seq(*parts: Node | str) -> Node:
    nodes = tuple(text(p) if isinstance(p, str) else p for p in parts)
    return nodes[0] if len(nodes) == 1 else Sequence(nodes)


def choice(options: list[Node]) -> Node:
    unique = list(dict.fromkeys(options))
    return unique[0] if len(unique) == 1 else Choice(tuple(unique))


def optional(part: Node) -> Node:
    return Repeat(part, 0, 1)


_HEX = "[0-9a-fA-F]"
# RFC 8259 section 7; escapes of lone surrogates are left out, as they are no text
_CHARACTER = Terminal(
    r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" ('
    rf"[0-9a-cA-Ce-fE-F] {_HEX} {_HEX} {_HEX} | [dD] [0-7] {_HEX} {_HEX}))"
)
_SPACE = Terminal('(" " | "\\n" [ ]{0,12})?')

CHARACTER = Ref("char")
SPACE = Ref("space")


@dataclass
class Grammar:
    rules: dict[str, Node] = field(default_factory=lambda: {"char": _CHARACTER, "space": _SPACE})

    def reserve(self, name: str) -> str:
        """A rule name like ``name`` that is not taken."""
        clean = "".join(c if c.isascii() and c.isalnum() else "-" for c in name).strip("-")[:40] or "rule"
        candidate, number = clean, 1
        while candidate in self.rules:
            number += 1
            candidate = f"{clean}-{number}"
        self.rules[candidate] = EMPTY
        return candidate

    def write(self) -> str:
        """GBNF with a rule ``root``; rules that nothing reaches are left out."""
        reached: dict[str, None] = {}
        waiting = ["root"]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached[name] = None
                waiting.extend(_refs(self.rules[name]))
        return "".join(f"{name} ::= {_write(self.rules[name])}\n" for name in reached)

    def ends(self, name: str = "root") -> bool:
        """Can ``name`` produce any finite text?  False for an object that must contain itself for ever."""
        productive: set[str] = set()
        while True:
            more = {n for n, node in self.rules.items() if n not in productive and _ends(node, productive)}
            if not more:
                return name in productive
            productive |= more


def _ends(node: Node, productive: set[str]) -> bool:
    if isinstance(node, Terminal):
        return True
    if isinstance(node, Ref):
        return node.rule in productive
    if isinstance(node, Sequence):
        return all(_ends(p, productive) for p in node.parts)
    if isinstance(node, Choice):
        return any(_ends(o, productive) for o in node.options)
    return node.least == 0 or _ends(node.part, productive)


def _refs(node: Node) -> Iterator[str]:
    if isinstance(node, Ref):
        yield node.rule
    elif isinstance(node, Sequence):
        for part in node.parts:
            yield from _refs(part)
    elif isinstance(node, Choice):
        for option in node.options:
            yield from _refs(option)
    elif isinstance(node, Repeat):
        yield from _refs(node.part)


def _write(node: Node) -> str:
    if isinstance(node, Terminal):
        return node.gbnf
    if isinstance(node, Ref):
        return node.rule
    if isinstance(node, Sequence):
        return " ".join(_grouped(p) for p in node.parts) or '""'
    if isinstance(node, Choice):
        return " | ".join(_write(o) for o in node.options)
    return _grouped(node.part) + _times(node.least, node.most)


def _grouped(node: Node) -> str:
    alone = isinstance(node, Terminal | Ref) or (isinstance(node, Repeat) and (node.least, node.most) != (1, 1))
    return _write(node) if alone and not isinstance(node, Repeat) else f"({_write(node)})"


def _times(least: int, most: int | None) -> str:
    if (least, most) == (0, 1):
        return "?"
    if (least, most) == (0, None):
        return "*"
    if (least, most) == (1, None):
        return "+"
    return f"{{{least},{'' if most is None else most}}}" if least != most else f"{{{least}}}"


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char == "\n":
        return "\\n"
    if ord(char) < 32 or ord(char) == 127:
        return f"\\x{ord(char):02X}"
    return char
