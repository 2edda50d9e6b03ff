"""YAML edited in place with ruamel.yaml, which keeps comments, order, quotes and anchors.

Servers live in a mapping by name, or (``list_key``) in a list of mappings of which one key holds the name.
"""

from __future__ import annotations

import io
import re
from collections.abc import MutableMapping, MutableSequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gateway.clients.jsonc import Malformed

_NO_FOLDING = 1 << 20  # never break a long line that the file has in one piece


def loads(text: str) -> Any:
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError as e:
        raise Malformed(_first_line(e)) from e
    return {} if value is None else value


def put(text: str, path: tuple[str, ...], value: Any, *, list_key: str = "") -> str:
    yaml, document = _parse(text)
    parent = document
    for key in path[:-1]:
        if parent.get(key) is None:
            parent[key] = [] if list_key and key == path[-2] else {}
        parent = _container(parent, key)
    if isinstance(parent, MutableSequence):
        at = _position(parent, list_key, path[-1])
        parent.insert(len(parent), value) if at is None else parent.__setitem__(at, value)
    else:
        parent[path[-1]] = value
    return _dump(yaml, document)


def remove(text: str, path: tuple[str, ...], *, list_key: str = "") -> str:
    yaml, document = _parse(text)
    parent = document
    for key in path[:-1]:
        if parent.get(key) is None:
            return text
        parent = _container(parent, key)
    at: Any = _position(parent, list_key, path[-1]) if isinstance(parent, MutableSequence) else path[-1]
    if at is None or (isinstance(parent, MutableMapping) and at not in parent):
        return text
    del parent[at]
    return _dump(yaml, document)


def document(head: dict[str, Any]) -> str:
    """A new document that says ``head``."""
    return _dump(YAML(), head) if head else ""


def _parse(text: str) -> tuple[YAML, Any]:
    """A writer set to the file's own indentation, and its content."""
    loads(text)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = _NO_FOLDING
    dash = _indent(text, r"- ", 2)
    yaml.indent(mapping=_indent(text, r"[^\s#-]", 2) or 2, sequence=dash + 2, offset=dash)
    document = yaml.load(text)
    document = yaml.map() if document is None else document
    if not isinstance(document, MutableMapping):
        raise Malformed("expected a mapping at the top")
    return yaml, document


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


def _dump(yaml: YAML, document: Any) -> str:
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _first_line(error: YAMLError) -> str:
    return " ".join(str(error).split())[:300]
