"""What in a server's own words deserves a second look: text nobody sees, names that look like others, talk of others.  Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, Final

# Controls, formats (zero width, bidirectional, tags), private use, halves of pairs and unassigned; not newline and tab.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Co", "Cs", "Cn"})
# Letters that are drawn as nothing, and variation selectors, which can carry text (Unicode 15, DerivedCoreProperties:
# Default_Ignorable_Code_Point beyond category Cf).
_BLANK: Final = frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0x180B, 0x1810)})
_SELECTORS: Final = (range(0xFE00, 0xFE0F), range(0xE0100, 0xE01F0))  # U+FE0F alone is in everyday emoji
# Letters and digits drawn alike, each to the Latin one (Unicode UTS 39, confusables.txt: the most common of them).
_ALIKE: Final = str.maketrans("аеорсухіјѕԁһӏοανιρ01l|", "aeopcyxijsdhioavipoiii")
_SHORTEST: Final = 5  # a shorter name of another server's tool is an everyday word


def suspicions(item: Any, name: str, listing: Mapping[str, Any], neighbours: Mapping[str, Any]) -> Iterator[str]:
    """Reasons to look closely at ``item``; ``listing`` is its server's, ``neighbours`` the other servers' by name."""
    texts = list(_texts(item))
    unseen = sorted({f"U+{ord(c):04X}" for text in texts for c in text if is_unseen(c)})
    if unseen:
        yield f"it has characters that nobody sees: {', '.join(unseen[:8])}{' ...' if unseen[8:] else ''}"
    if name:
        yield from _alike(name, listing, neighbours)
    yield from _references("\n".join(texts), listing, neighbours)


def is_unseen(character: str) -> bool:
    if character in "\n\t\r":
        return False
    code = ord(character)
    return (
        unicodedata.category(character) in _UNSEEN
        or code in _BLANK
        or any(code in selectors for selectors in _SELECTORS)
    )


def shown(text: str) -> str:
    """``text`` on one or more lines, with every character that nobody sees spelt out."""
    return "".join(c.encode("unicode_escape").decode() if c == "\r" or is_unseen(c) else c for c in text)


def skeleton(name: str) -> str:
    """The same for names that look the same: case, width, accents, separators and look-alike letters are folded."""
    plain = unicodedata.normalize("NFKD", name).casefold().translate(_ALIKE)
    return "".join(c for c in plain if c.isalnum() and not unicodedata.combining(c))


def _alike(name: str, listing: Mapping[str, Any], neighbours: Mapping[str, Any]) -> Iterator[str]:
    own, folded = _names(listing), skeleton(name)
    for other in sorted(own - {name}):
        if skeleton(other) == folded:
            yield f"its name looks like {other}, of the same server"
    for server, theirs in sorted(neighbours.items()):
        for other in sorted(_names(theirs)):
            if other == name:
                yield f"{server} has one of the same name"
            elif skeleton(other) == folded:
                yield f"its name looks like {other}, of {server}"


def _references(text: str, listing: Mapping[str, Any], neighbours: Mapping[str, Any]) -> Iterator[str]:
    words = set(re.findall(r"[\w.-]+", text))
    words |= {word.strip(".-") for word in words}
    own = _names(listing)
    for server, theirs in sorted(neighbours.items()):
        names = {n for n in _names(theirs) - own if len(n) >= _SHORTEST and re.search(r"[_\-.A-Z]", n)}
        for name in sorted(names & words):
            yield f"it speaks of {name}, a tool of {server}"


def _names(listing: Mapping[str, Any]) -> set[str]:
    return {tool["name"] for tool in listing.get("tools") or []}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
