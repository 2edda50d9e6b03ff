"""TOML edited in place: the lines of our tables change, every other line stays.

A server stands in a table of its own, ``[mcp_servers.name]``, with nested tables inline, as the clients write it.  Where
a file has it otherwise (inline, dotted), tomlkit's round trip edits it.  What a splice yields is read back and compared.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import MutableMapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Table

from gateway.clients.jsonc import Malformed

_HEADER = re.compile(r"\s*\[\[?([^\[\]]+)\]\]?\s*(?:#.*)?")


def loads(text: str) -> Any:
    """Read with the standard library, so that what we or tomlkit wrote is checked by another reader."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise Malformed(str(e)) from e


def put(text: str, path: tuple[str, ...], value: dict[str, Any]) -> str:
    before = loads(text)
    expected = _with(before, path, value)
    spliced = _spliced(text, path, _render(path, value).splitlines())
    return spliced if _says(spliced, expected) else _put_by_round_trip(text, path, value)


def remove(text: str, path: tuple[str, ...]) -> str:
    before = loads(text)
    if _get(before, path) is None:
        return text
    spliced = _spliced(text, path, [])
    return spliced if _says(spliced, _with(before, path, None)) else _remove_by_round_trip(text, path)


def _spliced(text: str, path: tuple[str, ...], rendered: list[str]) -> str:
    """``text`` with our tables replaced by ``rendered``; a new one goes below its last sibling, or at the end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.replace("\r\n", "\n").split("\n")
    headers = [(number, name) for number, line in enumerate(lines) if (name := _header(line)) is not None]
    ours = [n for n, name in headers if name[: len(path)] == path]
    siblings = [n for n, name in headers if name[: len(path) - 1] == path[:-1]]
    for start in reversed(ours):
        nested_gap = start > ours[0] and not lines[start - 1].strip()
        del lines[start - nested_gap : _end(lines, headers, start)]
    if rendered:
        at = ours[0] if ours else _end(lines, headers, siblings[-1] if siblings else len(lines))
        gap = [""] if at and lines[at - 1].strip() else []
        below = [] if at < len(lines) and not lines[at].strip() else [""]
        lines[at:at] = [*gap, *rendered, *below]
    elif ours and ours[0] and not lines[ours[0] - 1].strip():
        del lines[ours[0] - 1]  # the empty line that set our table off
    return newline.join(lines)


def _end(lines: list[str], headers: list[tuple[int, tuple[str, ...]]], start: int) -> int:
    """After the last line of the table whose header is at ``start``; comments below it stay with what they precede."""
    end = next((n for n, _ in headers if n > start), len(lines))
    while end > min(start + 1, len(lines)) and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    if start >= len(lines):
        while end and not lines[end - 1].strip():
            end -= 1
    return end


def _header(line: str) -> tuple[str, ...] | None:
    match = _HEADER.fullmatch(line)
    if match is None:
        return None
    try:
        names: Any = tomllib.loads(f"{match[1]} = 0")
    except tomllib.TOMLDecodeError:
        return None
    found: list[str] = []
    while isinstance(names, dict) and len(names) == 1:
        (name, names), *_ = names.items()
        found.append(name)
    return tuple(found) if names == 0 else None


def _says(text: str, expected: Any) -> bool:
    try:
        return bool(_trimmed(tomllib.loads(text)) == _trimmed(expected))
    except tomllib.TOMLDecodeError:
        return False


def _trimmed(body: Any) -> Any:
    """Without empty tables at the top: an edit may make or leave the place where servers stand."""
    return {k: v for k, v in body.items() if v != {}}


def _get(body: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        body = body.get(key) if isinstance(body, dict) else None
    return body


def _with(body: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """``body`` with ``value`` at ``path``, or without it when ``value`` is None.  Raises ``Malformed``."""
    key, *rest = path
    if not rest:
        return {**{k: v for k, v in body.items() if k != key}, **({} if value is None else {key: value})}
    inner = body.get(key, {})
    if not isinstance(inner, dict):
        raise Malformed(f"expected a table at {key!r}")
    return {**body, key: _with(inner, tuple(rest), value)}


def _render(path: tuple[str, ...], value: dict[str, Any]) -> str:
    document = tomlkit.document()
    parent: MutableMapping[str, Any] = document
    for key in path[:-1]:
        parent[key] = tomlkit.table(is_super_table=True)
        parent = parent[key]
    parent[path[-1]] = _item(value)
    return tomlkit.dumps(document)


def _put_by_round_trip(text: str, path: tuple[str, ...], value: dict[str, Any]) -> str:
    document = _parse(text)
    table: MutableMapping[str, Any] = document
    for key in path[:-1]:
        if key not in table:
            table[key] = tomlkit.table(is_super_table=True)
        table = _table(table, key)
    table[path[-1]] = _inline(value) if isinstance(table, InlineTable) else _item(value)
    return tomlkit.dumps(document)


def _remove_by_round_trip(text: str, path: tuple[str, ...]) -> str:
    document = _parse(text)
    table: MutableMapping[str, Any] = document
    for key in path[:-1]:
        table = _table(table, key)
    del table[path[-1]]
    return tomlkit.dumps(document)


def _parse(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except (TOMLKitError, ValueError) as e:
        raise Malformed(str(e)) from e


def _table(parent: MutableMapping[str, Any], key: str) -> MutableMapping[str, Any]:
    child = parent[key]
    if not isinstance(child, MutableMapping):
        raise Malformed(f"expected a table at {key!r}")
    return child


def _item(value: dict[str, Any]) -> Table:
    table = tomlkit.table()
    for key, inner in value.items():
        table[key] = _inline(inner) if isinstance(inner, dict) else inner
    return table


def _inline(value: dict[str, Any]) -> InlineTable:
    table = tomlkit.inline_table()
    table.update(value)
    return table
