"""``key=value`` words to a tool's arguments, by the types of its input schema.  Pure.

A word is ``key=text`` (converted to what the schema wants) or ``key:=JSON`` (taken as it is).  A key given again adds to
a list.  Unknown keys and missing required ones are refused here, before anything starts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.cli_errors import ArgumentsInvalid

_INTEGER = re.compile(r"[+-]?\d+")
_REFS = 8  # references followed from a property to its type: more is a loop


def arguments(
    tool: str, schema: Mapping[str, Any], words: Sequence[str], given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The arguments in ``words`` over those ``given`` as an object.  Raises ``ArgumentsInvalid``."""
    found: dict[str, Any] = dict(given or {})
    seen: set[str] = set()
    for word in words:
        key, text, raw = _split(tool, word)
        value = _json(tool, key, text) if raw else _value(tool, schema, key, text)
        repeated = key in seen and isinstance(found[key], list)
        if key in seen and not repeated:
            raise _invalid(tool, schema, f"{key} is given twice")
        found[key] = [*found[key], *(value if isinstance(value, list) else [value])] if repeated else value
        seen.add(key)
    _check(tool, schema, found)
    return found


def describe(schema: Mapping[str, Any]) -> list[tuple[str, str, bool, str]]:
    """One row per argument: name, type, required, description."""
    required = _required(schema)
    return [
        (key, _type_name(schema, prop), key in required, str(_resolved(schema, prop).get("description", "")))
        for key, prop in _properties(schema).items()
    ]


def _split(tool: str, word: str) -> tuple[str, str, bool]:
    key, equals, text = word.partition("=")
    raw = key.endswith(":")
    key = key.removesuffix(":")
    if not equals or not key:
        raise ArgumentsInvalid(
            f"not an argument: {word!r}", remedy=f"write key=value, or key:=JSON; see: hm tools inspect {tool}"
        )
    return key, text, raw


def _value(tool: str, schema: Mapping[str, Any], key: str, text: str) -> Any:
    prop = _properties(schema).get(key, {})
    try:
        return _convert(schema, prop, text)
    except ValueError as e:
        wanted = _type_name(schema, prop)
        raise _invalid(tool, schema, f"{key} must be {_article(wanted)} {wanted}, not {text!r}") from e


def _convert(schema: Mapping[str, Any], prop: Any, text: str) -> Any:
    types = _types(schema, prop)
    if not types:
        return _guess(text)
    if "string" in types:
        return text
    for kind in ("null", "boolean", "integer", "number", "array", "object"):
        if kind in types and (value := _as(kind, schema, prop, text)) is not _NOT:
            return value
    raise ValueError(text)


class _Not:
    pass


_NOT = _Not()


def _as(kind: str, schema: Mapping[str, Any], prop: Any, text: str) -> Any:
    if kind == "null":
        return None if text == "null" else _NOT
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), _NOT)
    if kind == "integer":
        return int(text) if _INTEGER.fullmatch(text) else _NOT
    if kind == "number":
        return _number(text)
    try:
        value = json.loads(text)
    except ValueError:
        value = _NOT
    if kind == "object":
        return value if isinstance(value, dict) else _NOT
    return value if isinstance(value, list) else [_convert(schema, _items(schema, prop), text)]


def _number(text: str) -> Any:
    try:
        value = float(text)
    except ValueError:
        return _NOT
    if not math.isfinite(value):
        return _NOT
    return int(text) if _INTEGER.fullmatch(text) else value


def _guess(text: str) -> Any:
    """A value whose schema says nothing: JSON if it is, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json(tool: str, key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as e:
        raise ArgumentsInvalid(f"{key}:={text} is not JSON: {e}", remedy=f"see: hm tools inspect {tool}") from e


def _check(tool: str, schema: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    silent = (
        "properties" not in schema and schema.get("additionalProperties") is not False
    )  # says nothing: anything goes
    open_ended = silent or schema.get("additionalProperties") not in (None, False) or "patternProperties" in schema
    for key in found:
        if key not in _properties(schema) and not open_ended:
            raise _invalid(tool, schema, f"no argument {key!r}")
    missing = [key for key in _required(schema) if key not in found]
    if missing:
        raise _invalid(tool, schema, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")


def _invalid(tool: str, schema: Mapping[str, Any], why: str) -> ArgumentsInvalid:
    rows = [f"{key} ({kind}{', required' if must else ''})" for key, kind, must, _ in describe(schema)]
    return ArgumentsInvalid(
        f"{tool}: {why}; it takes {', '.join(rows) if rows else 'no arguments'}", remedy=f"see: hm tools inspect {tool}"
    )


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _required(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required")
    return [k for k in required if isinstance(k, str)] if isinstance(required, list) else []


def _resolved(schema: Mapping[str, Any], prop: Any) -> Mapping[str, Any]:
    """``prop`` with local references (``#/$defs/Name``) followed; what it says beside the reference stays."""
    for _ in range(_REFS):
        if not isinstance(prop, dict):
            return {}
        if not isinstance(prop.get("$ref"), str):
            return prop
        beside = {k: v for k, v in prop.items() if k != "$ref"}
        prop = {**_pointed(schema, prop["$ref"]), **beside}
    return {}


def _pointed(schema: Mapping[str, Any], ref: str) -> dict[str, Any]:
    target: Any = schema if ref.startswith("#") else {}
    for part in ref.removeprefix("#").split("/")[1:]:
        target = target.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(target, dict) else {}
    return target if isinstance(target, dict) else {}


def _types(schema: Mapping[str, Any], prop: Any, depth: int = 0) -> list[str]:
    """The JSON types ``prop`` allows, in its order; empty when it does not say."""
    prop = _resolved(schema, prop)
    named = prop.get("type")
    if isinstance(named, str):
        return [named]
    if isinstance(named, list):
        return [n for n in named if isinstance(n, str)]
    if isinstance(prop.get("enum"), list):
        return sorted({_type_of(v) for v in prop["enum"]})
    if "const" in prop:
        return [_type_of(prop["const"])]
    parts = [p for key in ("anyOf", "oneOf", "allOf") if isinstance(prop.get(key), list) for p in prop[key]]
    return list(dict.fromkeys(t for p in parts for t in _types(schema, p, depth + 1))) if depth < _REFS else []


def _items(schema: Mapping[str, Any], prop: Any) -> Any:
    prop = _resolved(schema, prop)
    if "items" in prop:
        return prop["items"]
    parts = [p for key in ("anyOf", "oneOf") if isinstance(prop.get(key), list) for p in prop[key]]
    return next((p["items"] for p in (_resolved(schema, p) for p in parts) if "items" in p), {})


def _type_of(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _type_name(schema: Mapping[str, Any], prop: Any) -> str:
    types = [t for t in _types(schema, prop) if t != "null"]
    choices = _resolved(schema, prop).get("enum")
    if isinstance(choices, list) and choices:
        return "one of " + "|".join(str(c) for c in choices)
    return "|".join(types) or "value of any type"


def _article(noun: str) -> str:
    if noun.startswith("one of"):
        return ""
    return "an" if noun[0] in "aeio" else "a"
