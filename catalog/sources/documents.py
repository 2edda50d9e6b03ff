"""YAML and JSON from strangers: read with limits on bytes, depth, nodes and aliases, so that no document is a bomb.

The YAML is read as libyaml's events and turned into plain values here: mappings, lists, strings, numbers, booleans and
null, nothing else.  (libyaml's own composer calls itself for every level and dies on deep input.)  A repeated key is
refused: the last one would win, a reviewer sees the first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
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
_RESOLVER: Any = yaml.resolver.Resolver()
_CONSTRUCTOR = yaml.constructor.SafeConstructor()
Event = Any  # the types that PyYAML ships know no attributes
_TAG = "tag:yaml.org,2002:"


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
        events = yaml.parse(data.decode("utf-8-sig"), Loader=_LOADER)
        return _Builder(events, lines).document()
    except UnicodeDecodeError as e:
        raise EntryUnreadable(f"not UTF-8: byte {e.start}", remedy="save the file as UTF-8") from e
    except yaml.YAMLError as e:
        raise EntryUnreadable(f"not valid YAML: {_where(e)}", remedy="correct the file at that place") from e


class _Builder:
    """Turns one document's events into values, counting as it goes."""

    def __init__(self, events: Iterator[Event], lines: bool) -> None:
        self._events, self._keep_lines = events, lines
        self._lines: dict[str, int] = {}
        self._nodes = self._aliases = 0
        self._anchors: dict[str, tuple[Any, int]] = {}
        """Value and number of values in it, so that an alias of an alias counts in full."""

    def document(self) -> Document:
        next(self._events)  # start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise EntryUnreadable("the document is empty", remedy="write the entry")
        value = self._value(next(self._events), "", 0)
        next(self._events)  # end of the document
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _refused(after, "a second document begins; a file is a single document", "remove it")
        return Document(value, self._lines)

    def _value(self, event: Event, path: str, depth: int) -> Any:
        if self._keep_lines:
            self._lines.setdefault(path, event.start_mark.line + 1)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._nodes
        self._count(event, 1, depth)
        value = self._built(event, path, depth)
        if event.anchor:
            self._anchors[event.anchor] = (value, self._nodes - before)
        return value

    def _built(self, event: Event, path: str, depth: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if event.tag not in (None, "!", f"{_TAG}seq", f"{_TAG}map"):
            raise _refused(event, f"the tag {event.tag} is not read", "write a plain value")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        return self._mapping(path, depth)

    def _sequence(self, path: str, depth: int) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.append(self._value(event, f"{path}[{len(found)}]", depth + 1))
        return found

    def _mapping(self, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = _key(event)
            if key in found:
                raise _refused(event, f"{key!r} stands twice", "remove one of the two")
            here = f"{path}.{key}" if path else key
            if self._keep_lines:
                self._lines[here] = event.start_mark.line + 1
            found[key] = self._value(next(self._events), here, depth + 1)
        return found

    def _alias(self, event: Event) -> Any:
        if event.anchor not in self._anchors:
            raise _refused(event, f"the alias {event.anchor} names nothing before it", "write the value out")
        value, size = self._anchors[event.anchor]
        self._aliases += 1
        self._count(event, size, 0)
        return value

    def _count(self, event: Event, values: int, depth: int) -> None:
        self._nodes += values
        if depth > MAX_DEPTH or self._nodes > MAX_NODES or self._aliases > MAX_ALIASES:
            limits = f"depth {MAX_DEPTH}, values {MAX_NODES}, aliases {MAX_ALIASES}"
            raise _refused(event, f"too deep or too many values ({limits})", "write the values out plainly")


def _key(event: Event) -> str:
    plain = isinstance(event, yaml.ScalarEvent) and event.tag in (None, "!", f"{_TAG}str") and not event.anchor
    if not plain or (event.value == "<<" and event.implicit[0]):
        raise _refused(event, "only plain keys are read", "write the keys out")
    return str(event.value)


def _scalar(event: Event) -> Any:
    tag = event.tag
    if tag in (None, "!"):
        tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit) if tag is None else f"{_TAG}str"
    kind = tag.removeprefix(_TAG)
    if kind in ("int", "float", "bool", "null"):
        try:
            return _finite(_CONSTRUCTOR.construct_object(yaml.ScalarNode(tag, event.value)), event.value)
        except (ValueError, OverflowError, LookupError, yaml.YAMLError):
            return str(event.value)
    if kind in ("str", "timestamp", "value", "merge"):
        return str(event.value)
    raise _refused(event, f"the tag {tag} is not read", "write a plain value")


def _finite(value: Any, text: str) -> Any:
    """Numbers that JSON does not have stay text."""
    return value if not isinstance(value, float) or math.isfinite(value) else text


def _refused(event: Event, problem: str, remedy: str) -> EntryUnreadable:
    return EntryUnreadable(f"line {event.start_mark.line + 1}: {problem}", remedy=remedy)


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


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else str(problem)
