"""TOML edited in place with tomlkit, which keeps comments, order and spacing."""

from __future__ import annotations

import tomllib
from collections.abc import MutableMapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Table

from gateway.clients.jsonc import Malformed


def loads(text: str) -> Any:
    """Read with the standard library, so that what tomlkit wrote is checked by another reader."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise Malformed(str(e)) from e


def put(text: str, path: tuple[str, ...], value: Any) -> str:
    document = _parse(text)
    table: MutableMapping[str, Any] = document
    for key in path[:-1]:
        if key not in table:
            table[key] = tomlkit.table(is_super_table=True)
        table = _table(table, key)
    table[path[-1]] = _inline(value) if isinstance(table, InlineTable) else _item(value)
    return _spaced(tomlkit.dumps(document), text)


def remove(text: str, path: tuple[str, ...]) -> str:
    document = _parse(text)
    table: MutableMapping[str, Any] = document
    for key in path[:-1]:
        if key not in table:
            return text
        table = _table(table, key)
    if path[-1] not in table:
        return text
    del table[path[-1]]
    return _spaced(tomlkit.dumps(document), text) if text.endswith("\n") else tomlkit.dumps(document)


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
    """A table whose nested tables are inline: one ``[section]`` per server, as people write it."""
    table = tomlkit.table()
    for key, inner in value.items():
        table[key] = _inline(inner) if isinstance(inner, dict) else inner
    table.add(tomlkit.nl())
    return table


def _inline(value: dict[str, Any]) -> InlineTable:
    table = tomlkit.inline_table()
    table.update(value)
    return table


def _spaced(text: str, before: str) -> str:
    """No empty line at the end that was not there before."""
    return text if before.endswith("\n\n") else text.rstrip("\n") + "\n"
