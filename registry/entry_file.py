"""server.yaml as plain data with line numbers.  Small, without aliases, duplicate keys, tags or invisible characters."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from registry.build.errors import EntryInvalid

MAX_ENTRY_BYTES = 64 << 10  # the largest entry of ours has 3 kB
MAX_DEPTH = 12
MAX_NODES = 4000

Path_ = tuple[str | int, ...]
# YAML 1.2 core schema; anything else would be a tag that asks for a Python type
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}
# Unicode categories that people cannot see: control, format (bidi, zero width, tags), surrogate, private, separators
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@dataclass
class Document:
    path: Path
    data: Any
    lines: dict[Path_, int] = field(default_factory=dict)  # key path -> line, from 1
    foreign: bool = False  # written in another registry's form

    def line(self, key: Path_) -> int:
        """The line of ``key`` or of the nearest thing above it that exists."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def at(self, key: Path_, problem: str, remedy: str) -> EntryInvalid:
        return refuse(self.path, self.line(key), key, problem, remedy)


def refuse(path: Path, line: int, key: Path_, problem: str, remedy: str) -> EntryInvalid:
    where = f"{path}:{line}: " + (f"{dotted(key)}: " if key else "")
    return EntryInvalid(where + problem, remedy=remedy, file=str(path), line=line, key=dotted(key))


def dotted(key: Path_) -> str:
    return ".".join(str(part) for part in key)


def read_document(path: Path) -> Document:
    """Raises ``EntryInvalid`` with file, line and key for anything that is not small, plain YAML."""
    return parse_document(path, _read(path))


def parse_document(path: Path, raw: bytes) -> Document:
    text = _decode(path, raw)
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise refuse(path, line, (), f"not YAML: {e.problem or e.context}", "correct the line") from e
    except (YAMLError, RecursionError, ValueError) as e:
        raise refuse(path, 1, (), f"not YAML: {type(e).__name__}", "correct the file") from e
    document = Document(path, None)
    if root is None:
        raise refuse(path, 1, (), "the file is empty", "start from another server's server.yaml")
    document.data = _Reader(document).value(root, ())
    return document


def hidden_characters(text: str) -> list[str]:
    """Names of the invisible characters in ``text``; line feeds do not count."""
    return [unicodedata.name(c, f"U+{ord(c):04X}") for c in text if c != "\n" and unicodedata.category(c) in _HIDDEN]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as f:
            raw = f.read(MAX_ENTRY_BYTES + 1)
    except OSError as e:
        raise refuse(path, 1, (), f"cannot be read ({e.strerror})", "every server folder has a server.yaml") from e
    return raw


def _decode(path: Path, raw: bytes) -> str:
    if len(raw) > MAX_ENTRY_BYTES:
        raise refuse(path, 1, (), f"larger than {MAX_ENTRY_BYTES} bytes", "an entry is a page of text: shorten it")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as e:
        line = raw[: e.start].count(b"\n") + 1
        raise refuse(path, line, (), "not UTF-8", "save the file as UTF-8") from e
    for number, line_text in enumerate(text.split("\n"), start=1):
        found = hidden_characters(line_text)
        if found:
            raise refuse(path, number, (), f"has an invisible character ({found[0]})", "remove it")
    return text


class _Reader:
    def __init__(self, document: Document) -> None:
        self._document, self._nodes, self._seen = document, 0, set[int]()

    def value(self, node: Node, key: Path_) -> Any:
        line = node.start_mark.line + 1
        self._document.lines.setdefault(key, line)
        self._nodes += 1
        if self._nodes > MAX_NODES or len(key) > MAX_DEPTH:
            raise self._refuse(line, key, "the file is too large or too deep", "an entry is a page of text: shorten it")
        if id(node) in self._seen or node.anchor:
            raise self._refuse(line, key, "YAML anchors and aliases are not read", "write the value out")
        self._seen.add(id(node))
        if str(node.tag) not in _TAGS:
            raise self._refuse(
                line, key, f"the tag or type {node.tag} is not read", "quote the value, or remove the tag"
            )
        if isinstance(node, MappingNode):
            return self._mapping(node, key)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*key, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, key, line)

    def _mapping(self, node: MappingNode, key: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, item in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, ScalarNode) or hidden_characters(str(name.value)):
                raise self._refuse(line, key, "a key is not text", "use plain keys")
            if name.value in result:
                raise self._refuse(line, (*key, name.value), "this key is there twice", "remove one of them")
            self._document.lines[(*key, name.value)] = line
            result[name.value] = self.value(item, (*key, name.value))
        return result

    def _scalar(self, node: Node, key: Path_, line: int) -> Any:
        text = str(node.value)
        if found := hidden_characters(text):  # an escape in a quoted text
            raise self._refuse(line, key, f"has an invisible character ({found[0]})", "remove it")
        match str(node.tag).rpartition(":")[2]:
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" | "float":
                return self._number(text, key, line)
            case _:
                return text

    def _number(self, text: str, key: Path_, line: int) -> int | float:
        try:
            return int(text)
        except ValueError:
            pass
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if number != number or number in (float("inf"), float("-inf")):
            raise self._refuse(line, key, f"{text!r} is not a plain number", "quote it if it is text")
        return number

    def _refuse(self, line: int, key: Path_, problem: str, remedy: str) -> EntryInvalid:
        return refuse(self._document.path, line, key, problem, remedy)
