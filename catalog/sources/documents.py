"""YAML and JSON from strangers: read with limits on bytes, depth, nodes and aliases, so that no document is a bomb.

The YAML is parsed to a node graph by libyaml and turned into plain values here: mappings, lists, strings, numbers,
booleans and null, nothing else.  A repeated key is refused (the last one would win, a reviewer sees the first).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from catalog.errors import EntryUnreadable

MAX_DOCUMENT_BYTES = 16 << 20  # Docker's whole catalog v3 with 320 servers is under 2 MiB
MAX_ENTRY_BYTES = 512 << 10  # the largest real server.yaml is 11 KiB
MAX_TOOLS_BYTES = 8 << 20  # the largest real tools.json (302 tools) is 280 KiB
MAX_README_BYTES = 256 << 10
MAX_DEPTH = 40
MAX_NODES = 400_000
MAX_ALIASES = 100

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER = yaml.constructor.SafeConstructor()


@dataclass(slots=True)
class Document:
    """A parsed document and the line that each path stands on (``run.volumes[0]`` -> 12)."""

    value: Any
    lines: dict[str, int] = field(default_factory=dict)


def read_bounded(path: Path, limit: int) -> bytes:
    """The file's bytes; refuses links, devices and anything over ``limit``."""
    if path.is_symlink() or not path.is_file():
        raise EntryUnreadable(f"{path.name} is not a plain file", remedy="replace the link by the file")
    with path.open("rb") as f:
        data = f.read(limit + 1)
    if len(data) > limit:
        raise EntryUnreadable(f"{path.name} is larger than {limit} bytes", remedy="make it smaller", limit=limit)
    return data


def parse_yaml(data: bytes, *, lines: bool = True) -> Document:
    """Plain values of the one YAML document in ``data``; raises ``EntryUnreadable`` naming line and column."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise EntryUnreadable(f"the document is larger than {MAX_DOCUMENT_BYTES} bytes", remedy="split it")
    try:
        root = yaml.compose(data.decode("utf-8-sig"), Loader=_LOADER)
    except UnicodeDecodeError as e:
        raise EntryUnreadable(f"not UTF-8: byte {e.start}", remedy="save the file as UTF-8") from e
    except RecursionError as e:
        raise EntryUnreadable(f"nested deeper than {MAX_DEPTH}", remedy="flatten it") from e
    except yaml.YAMLError as e:
        raise EntryUnreadable(f"not valid YAML: {_where(e)}", remedy="correct the file at that place") from e
    if root is None:
        raise EntryUnreadable("the document is empty", remedy="write the entry")
    builder = _Builder(lines)
    return Document(builder.build(root, "", 0), builder.lines)


class _Builder:
    def __init__(self, lines: bool) -> None:
        self.lines: dict[str, int] = {}
        self._keep_lines = lines
        self._nodes = 0
        self._seen: set[int] = set()
        self._aliases = 0

    def build(self, node: yaml.Node, path: str, depth: int) -> Any:
        self._count(node, depth)
        if self._keep_lines:
            self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, f"{path}[{i}]", depth + 1) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        raise EntryUnreadable(f"{_line(node)}: not a YAML value", remedy="write plain YAML")

    def _count(self, node: yaml.Node, depth: int) -> None:
        self._nodes += 1
        if id(node) in self._seen and not isinstance(node, yaml.ScalarNode):
            self._aliases += 1
        self._seen.add(id(node))
        if depth > MAX_DEPTH or self._nodes > MAX_NODES or self._aliases > MAX_ALIASES:
            raise EntryUnreadable(
                f"{_line(node)}: too deep or too many values (depth {MAX_DEPTH}, values {MAX_NODES}, aliases {MAX_ALIASES})",
                remedy="write the values out plainly",
            )

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                raise EntryUnreadable(f"{_line(key_node)}: only plain keys are read", remedy="write the keys out")
            key = str(key_node.value)
            if key in found:
                raise EntryUnreadable(f"{_line(key_node)}: {key!r} stands twice", remedy="remove one of the two")
            here = f"{path}.{key}" if path else key
            if self._keep_lines:
                self.lines[here] = key_node.start_mark.line + 1
            found[key] = self.build(value_node, here, depth + 1)
        return found

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        kind = node.tag.rpartition(":")[2]
        try:
            if kind in ("int", "float", "bool", "null"):
                return _RESOLVER.construct_object(yaml.ScalarNode(node.tag, node.value))
        except (ValueError, OverflowError, yaml.YAMLError):
            return str(node.value)
        if kind in ("str", "timestamp", "value"):
            return str(node.value)
        raise EntryUnreadable(f"{_line(node)}: the tag {node.tag} is not read", remedy="write a plain value")


def parse_json(data: bytes) -> Any:
    """The value of a JSON document; numbers that JSON does not have and repeated keys are refused."""
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as e:
        raise EntryUnreadable(f"not valid JSON: {e}", remedy="correct the file at that place") from e
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else str(problem)
