"""JSON with comments and trailing commas, edited in place: only the bytes of one member change.

The dialect is what VS Code, Zed and opencode read (``//`` and ``/* */`` comments, trailing commas); plain JSON is a
subset.  ``locate`` keeps the position of every value so that an edit is a splice of the text, never a rewrite.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from json.decoder import JSONDecodeError
from typing import Any

MAX_DEPTH = 100  # deeper than any real settings file; keeps the recursive reader far from Python's limit
_SPACE = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\r\n]|\\.)*"')
_SCALAR = re.compile(r"true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")


class Malformed(ValueError):
    """``str()`` says what is wrong and on which line (counted from 1)."""


@dataclass(slots=True)
class Node:
    """A value at ``text[start:end]``; ``members`` for an object, in the order of the text."""

    start: int
    end: int
    value: Any
    members: list[Member] | None = None


@dataclass(slots=True)
class Member:
    start: int
    key: str
    node: Node
    comma: int | None = field(default=None)  # where the comma after it is


def loads(text: str) -> Any:
    """The value of a document; an empty one is an empty object, as the clients themselves treat it."""
    return locate(text).value


def locate(text: str) -> Node:
    start = _skip(text, 1 if text.startswith("\ufeff") else 0)
    if start == len(text):
        return Node(start, start, {}, [])
    node = _value(text, start, 0)
    rest = _skip(text, node.end)
    if rest != len(text):
        raise _malformed(text, rest, "something follows the end of the document")
    return node


def put(text: str, path: tuple[str, ...], value: Any) -> str:
    """``text`` with ``value`` at ``path``; objects missing on the way are made.  Raises ``Malformed``."""
    root = locate(text)
    if root.start == root.end:
        return text + _render(_nest(path, value), "", "  ", "\n") + "\n"
    node, depth = root, 0
    while depth < len(path):
        found = _member(text, node, path[depth])
        if found is None:
            return _insert(text, node, path[depth], _nest(path[depth + 1 :], value))
        node, depth = found.node, depth + 1
    rendered = _render(value, _indent_at(text, node.start), _unit(text, root), _newline(text))
    return text[: node.start] + rendered + text[node.end :]


def remove(text: str, path: tuple[str, ...]) -> str:
    """``text`` without the member at ``path``, with its comma and, where it stood alone on its lines, those lines."""
    node = locate(text)
    for key in path[:-1]:
        found = _member(text, node, key)
        if found is None:
            return text
        node = found.node
    gone = _member(text, node, path[-1])
    if gone is None or node.members is None:
        return text
    around = text[node.start + 1 : gone.start] + text[gone.node.end : node.end - 1]
    if len(node.members) == 1 and not around.strip(" \t\r\n,"):
        return text[: node.start] + "{}" + text[node.end :]
    position = node.members.index(gone)
    start, end = _whole_lines(text, gone.start, gone.node.end if gone.comma is None else gone.comma + 1)
    text = text[:start] + text[end:]
    previous = node.members[position - 1].comma if position and gone.comma is None else None
    return text if previous is None else text[:previous] + text[previous + 1 :]


def _value(text: str, at: int, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise _malformed(text, at, f"nested deeper than {MAX_DEPTH} levels")
    first = text[at : at + 1]
    if first == "{":
        return _object(text, at, depth)
    if first == "[":
        return _array(text, at, depth)
    if first == '"':
        value, end = _string(text, at)
        return Node(at, end, value)
    match = _SCALAR.match(text, at)
    if match is None:
        raise _malformed(text, at, f"expected a value, found {first!r}" if first else "the document ends too early")
    return Node(at, match.end(), json.loads(match.group()))


def _object(text: str, start: int, depth: int) -> Node:
    members: list[Member] = []
    at = _skip(text, start + 1)
    while text[at : at + 1] != "}":
        if members and members[-1].comma is None:
            raise _malformed(text, at, "expected a comma or }")
        key, end = _string(text, at)
        colon = _skip(text, end)
        if text[colon : colon + 1] != ":":
            raise _malformed(text, colon, f"expected a colon after {key!r}")
        node = _value(text, _skip(text, colon + 1), depth + 1)
        members.append(Member(at, key, node))
        at = _skip(text, node.end)
        if text[at : at + 1] == ",":
            members[-1].comma, at = at, _skip(text, at + 1)
    return Node(start, at + 1, {m.key: m.node.value for m in members}, members)


def _array(text: str, start: int, depth: int) -> Node:
    items: list[Any] = []
    at, comma = _skip(text, start + 1), True
    while text[at : at + 1] != "]":
        if not comma:
            raise _malformed(text, at, "expected a comma or ]")
        node = _value(text, at, depth + 1)
        items.append(node.value)
        at = _skip(text, node.end)
        comma = text[at : at + 1] == ","
        at = _skip(text, at + 1) if comma else at
    return Node(start, at + 1, items)


def _string(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] != '"':
        raise _malformed(text, at, "expected a string in double quotes")
    match = _STRING.match(text, at)
    if match is None:
        raise _malformed(text, at, "this string does not end on its line")
    try:
        return str(json.loads(match.group())), match.end()
    except JSONDecodeError as e:
        raise _malformed(text, at + e.pos, e.msg) from e


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _malformed(text: str, at: int, what: str) -> Malformed:
    return Malformed(f"line {text.count(chr(10), 0, at) + 1}: {what}")


def _member(text: str, node: Node, key: str) -> Member | None:
    if node.members is None:
        raise _malformed(text, node.start, f"expected an object that holds {key!r}")
    return next((m for m in reversed(node.members) if m.key == key), None)  # of two, readers take the last


def _nest(path: tuple[str, ...], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _insert(text: str, node: Node, key: str, value: Any) -> str:
    newline, unit, outer = _newline(text), _unit(text, locate(text)), _indent_at(text, node.start)
    line = f"{outer}{unit}{json.dumps(key, ensure_ascii=False)}: {_render(value, outer + unit, unit, newline)}"
    closing = node.end - 1
    body_end = len(text[:closing].rstrip(" \t\r\n"))
    tail = newline + line + newline + outer
    if not node.members:
        return text[:body_end] + tail + text[closing:]
    last = node.members[-1]
    if last.comma is not None:  # this file likes trailing commas
        return text[:body_end] + newline + line + "," + newline + outer + text[closing:]
    return text[: last.node.end] + "," + text[last.node.end : body_end] + tail + text[closing:]


def _render(value: Any, outer: str, unit: str, newline: str) -> str:
    return json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", newline + outer)


def _indent_at(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str, root: Node) -> str:
    """One level of indentation as this file has it: that of its first member, else two spaces."""
    return (_indent_at(text, root.members[0].start) if root.members else "") or "  "


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _whole_lines(text: str, start: int, end: int) -> tuple[int, int]:
    left = len(text[:start].rstrip(" \t"))
    right = end + len(text[end:]) - len(text[end:].lstrip(" \t"))
    starts_line = left == 0 or text[left - 1] == "\n"
    if not starts_line or text[right : right + 1] not in ("\r", "\n", ""):
        return start, end
    return left, right + (2 if text[right : right + 2] == "\r\n" else 1)
