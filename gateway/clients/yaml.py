"""YAML edited in place: the lines of one entry change, every other line stays.

Servers live in a mapping by name, or (``list_key``) in a list of mappings of which one key holds the name.  Where they
stand in block style, as people write them, the edit is a splice of lines at positions that ruamel.yaml reports; an
absent, empty or flow-style place goes through ruamel.yaml's round trip, which keeps comments, order, quotes and anchors.
"""

from __future__ import annotations

import io
import re
from collections.abc import MutableMapping, MutableSequence
from dataclasses import dataclass, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode

from gateway.clients.jsonc import Malformed

_BOM = "\ufeff"
_MARKER = re.compile(r"^---(?:\s|$)", re.MULTILINE)
_NO_FOLDING = 1 << 20  # never break a long line that the file has in one piece


def loads(text: str) -> Any:
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError as e:
        raise Malformed(_first_line(e)) from e
    return {} if value is None else value


def put(text: str, path: tuple[str, ...], value: Any, *, list_key: str = "") -> str:
    plain = _plain(text)
    block = _block(plain, path, list_key)
    if block is None:
        return _like(text, _put_by_round_trip(plain, path, value, list_key))
    item = [value] if list_key else {path[-1]: value}
    return _like(text, block.with_item(_render(item, plain).splitlines()))


def remove(text: str, path: tuple[str, ...], *, list_key: str = "") -> str:
    plain = _plain(text)
    block = _block(plain, path, list_key)
    if block is None:
        return _like(text, _remove_by_round_trip(plain, path, list_key))
    return text if block.ours is None else _like(text, block.without_ours())


def document(head: dict[str, Any]) -> str:
    """A new document that says ``head``."""
    return _dump(YAML(), head) if head else ""


@dataclass(frozen=True)
class _Block:
    """A non-empty place for servers in block style: ``lines`` of the file, where each entry starts, and ours."""

    lines: list[str]
    starts: list[int]
    column: int
    ours: int | None
    mapping: bool
    opened: tuple[int, int]  # line and column just after the colon that opens it

    def with_item(self, rendered: list[str]) -> str:
        """The file with our entry replaced by ``rendered``; a new one goes below the last entry."""
        start = self._end(self.starts[-1]) if self.ours is None else self.ours
        end = start if self.ours is None else self._end(self.ours)
        new = [" " * self.column + line if line else line for line in rendered]
        return "\n".join([*self.lines[:start], *new, *(self.lines[end:] or [""])])

    def without_ours(self) -> str:
        """The file without our entry; a place that held it alone stays, empty."""
        if len(self.starts) > 1:
            return self.with_item([])
        line, column = self.opened
        text = self.lines[line]
        empty = text[:column] + (" {}" if self.mapping else " []") + text[column:]
        return replace(self, lines=[*self.lines[:line], empty, *self.lines[line + 1 :]]).with_item([])

    def _end(self, start: int) -> int:
        """After the last line of the entry at ``start``; comments that follow it stay with what they precede."""
        last = start
        for number in range(start + 1, len(self.lines)):
            text = self.lines[number].strip()
            if not text or text.startswith("#"):
                continue
            indent = len(self.lines[number]) - len(self.lines[number].lstrip(" "))
            indentless = self.mapping and indent == self.column and text.startswith("- ")
            if indent <= self.column and not indentless:
                break
            last = number
        return last + 1


def _block(text: str, path: tuple[str, ...], list_key: str) -> _Block | None:
    loads(text)
    lines, node, opened = text.split("\n"), YAML().compose(text) if text.strip() else None, (0, 0)
    for key in path[:-1]:
        if not isinstance(node, MappingNode):
            return None
        above, node = next(((k, v) for k, v in node.value if k.value == key), (None, None))
        opened = _colon(lines, above)
    if not isinstance(node, MappingNode | SequenceNode) or node.flow_style or not node.value:
        return None
    mapping = isinstance(node, MappingNode)
    if mapping == bool(list_key):
        raise Malformed(f"expected a {'list' if list_key else 'mapping'} at {path[-2]!r}")
    entries = [k for k, _ in node.value] if mapping else node.value
    names = [k.value for k in entries] if mapping else [_name(item, list_key) for item in entries]
    starts, column = [e.start_mark.line for e in entries], node.start_mark.column
    dashes = mapping or all(lines[s][column : column + 2] == "- " for s in starts)
    if not dashes or lines[opened[0]][opened[1] :].partition("#")[0].strip():
        return None  # something else on the line of the key (an anchor, a tag)
    ours = starts[names.index(path[-1])] if path[-1] in names else None
    return _Block(lines, starts, column, ours, mapping, opened)


def _colon(lines: list[str], key: Any) -> tuple[int, int]:
    if key is None:
        return 0, 0
    line = key.end_mark.line
    return line, lines[line].index(":", key.end_mark.column) + 1


def _name(item: Any, list_key: str) -> Any:
    pairs = item.value if isinstance(item, MappingNode) else []
    return next((v.value for k, v in pairs if k.value == list_key), None)


def _render(item: Any, like: str) -> str:
    yaml = _writer(like)
    yaml.explicit_start = False
    if isinstance(item, list):
        yaml.indent(sequence=2, offset=0)
    return _dump(yaml, item)


def _put_by_round_trip(text: str, path: tuple[str, ...], value: Any, list_key: str) -> str:
    yaml, root = _parse(text)
    parent = root
    for key in path[:-1]:
        if parent.get(key) is None:
            parent[key] = [] if list_key and key == path[-2] else {}
        parent = _container(parent, key)
    if isinstance(parent, MutableSequence):
        at = _position(parent, list_key, path[-1])
        parent.insert(len(parent), value) if at is None else parent.__setitem__(at, value)
    else:
        parent[path[-1]] = value
    return _dump(yaml, root)


def _remove_by_round_trip(text: str, path: tuple[str, ...], list_key: str) -> str:
    yaml, root = _parse(text)
    parent = root
    for key in path[:-1]:
        if parent.get(key) is None:
            return text
        parent = _container(parent, key)
    at: Any = _position(parent, list_key, path[-1]) if isinstance(parent, MutableSequence) else path[-1]
    if at is None or (isinstance(parent, MutableMapping) and at not in parent):
        return text
    del parent[at]
    return _dump(yaml, root)


def _parse(text: str) -> tuple[YAML, Any]:
    """A writer set to the file's own indentation, and its content."""
    loads(text)
    yaml = _writer(text)
    root = yaml.load(text)
    root = yaml.map() if root is None else root
    if not isinstance(root, MutableMapping):
        raise Malformed("expected a mapping at the top")
    return yaml, root


def _writer(like: str) -> YAML:
    yaml = YAML()
    yaml.explicit_start = _MARKER.search(like) is not None
    yaml.preserve_quotes = True
    yaml.width = _NO_FOLDING
    dash = _indent(like, r"- ", 2)
    yaml.indent(mapping=_indent(like, r"[^\s#-]", 2) or 2, sequence=dash + 2, offset=dash)
    return yaml


def _indent(text: str, starts: str, otherwise: int) -> int:
    """How far below ``key:`` the first line that ``starts`` so is set, in columns."""
    match = re.search(
        rf"^( *)(?:- )?[^\s#][^\n]*:[ \t]*(?:#[^\n]*)?\n(?:[ \t]*(?:#[^\n]*)?\n)*( *){starts}", text, re.MULTILINE
    )
    return otherwise if match is None or len(match[2]) < len(match[1]) else len(match[2]) - len(match[1])


def _container(parent: Any, key: str) -> Any:
    child = parent[key]
    if not isinstance(child, MutableMapping | MutableSequence):
        raise Malformed(f"expected a mapping or a list at {key!r}")
    return child


def _position(items: MutableSequence[Any], list_key: str, name: str) -> int | None:
    return next((i for i, m in enumerate(items) if isinstance(m, dict) and m.get(list_key) == name), None)


def _plain(text: str) -> str:
    return text.removeprefix(_BOM).replace("\r\n", "\n")


def _like(before: str, text: str) -> str:
    """``text`` with the byte order mark and the line ends of ``before``."""
    bom = _BOM if before.startswith(_BOM) else ""
    return bom + (text.replace("\n", "\r\n") if "\r\n" in before else text)


def _dump(yaml: YAML, value: Any) -> str:
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()


def _first_line(error: YAMLError) -> str:
    return " ".join(str(error).split())[:300]
