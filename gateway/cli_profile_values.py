"""``key=value`` words of ``hm profile config``, typed by what the server says its parameters are.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from gateway.lock import LockedServer
from gateway.profiles.values import check, schemas
from harbourmaster.core.errors import UsageError


def assigned(server: LockedServer, words: Iterable[str]) -> dict[str, Any]:
    """The values in ``words``, checked.  Raises ``UsageError``, ``ConfigInvalid``."""
    known = schemas(server)
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f"not key=value: {word!r}", remedy="as in: timezone=Europe/Oslo, or ids:=[1,2]")
        raw = key.endswith(":")
        key = key.removesuffix(":")
        values[key] = _json(key, text) if raw else _typed(key, text, known.get(key, {}).get("type", "string"))
    check(server, values)
    return values


def pairs_of(words: Iterable[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise UsageError(f"not name=value: {key!r}", remedy="as in: --secret token=token-work")
    return {key: value for key, _, value in pairs}


def limits_of(words: Iterable[str]) -> dict[str, bool | int | float]:
    return {key: _number(key, text) for key, text in pairs_of(words).items()}


def _number(key: str, text: str) -> bool | int | float:
    value = _json(key, text)
    if not isinstance(value, bool | int | float):
        raise UsageError(f"{key} takes a number, true or false", remedy="as in: --limit memory_mb=1024")
    return value


def _typed(key: str, text: str, kind: str) -> Any:
    return text if kind == "string" else _json(key, text)


def _json(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as e:
        raise UsageError(
            f"{key}: {text!r} is not JSON", remedy="numbers, true, false, lists and objects as JSON"
        ) from e
