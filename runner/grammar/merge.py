"""``allOf`` as one schema: keywords of all parts together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runner.errors import SchemaImpossible

_LARGER = {"minimum", "minLength", "minItems", "minProperties", "exclusiveMinimum"}
_SMALLER = {"maximum", "maxLength", "maxItems", "maxProperties", "exclusiveMaximum"}
_IGNORED = {"title", "description", "default", "examples", "$comment", "$schema", "$id"}
_MAX_PARTS = 100


def merged(schema: dict[str, Any], resolve: Callable[[Any], Any], *, strict: bool) -> dict[str, Any] | None:
    """One schema that asks what all parts ask; None when they exclude each other."""
    result: dict[str, Any] = {k: v for k, v in schema.items() if k != "allOf"}
    waiting = list(schema["allOf"])
    for _ in range(_MAX_PARTS):
        if not waiting:
            return result
        part = waiting.pop(0)
        if part is False:
            return None
        if part is True:
            continue
        if "$ref" in part:
            waiting.insert(0, resolve(part["$ref"]))
            waiting.insert(1, {k: v for k, v in part.items() if k != "$ref"})
            continue
        waiting[:0] = part.get("allOf", [])
        for keyword, value in part.items():
            if keyword != "allOf" and not _add(result, keyword, value, strict=strict):
                return None
    raise _refused("allOf has too many parts")


def _add(result: dict[str, Any], keyword: str, value: Any, *, strict: bool) -> bool:
    old: Any = result.get(keyword)
    if keyword not in result or keyword in _IGNORED or old == value:
        result.setdefault(keyword, value)
    elif keyword == "type":
        kinds = _common_types(old, value)
        result["type"] = kinds
        return bool(kinds)
    elif keyword == "required":
        result[keyword] = list(dict.fromkeys([*old, *value]))
    elif keyword in ("properties", "$defs", "definitions"):
        result[keyword] = {**old, **{k: _both(old.get(k), v) for k, v in value.items()}}
    elif keyword == "enum":
        result[keyword] = [v for v in old if v in value]
        return bool(result[keyword])
    elif keyword in _LARGER:
        result[keyword] = max(old, value)
    elif keyword in _SMALLER:
        result[keyword] = min(old, value)
    elif keyword in ("additionalProperties", "items"):
        result[keyword] = _both(old, value)
    elif keyword == "const":
        return False
    elif strict:
        raise _refused(f"two parts of allOf have {keyword}")
    return True


def _both(left: Any, right: Any) -> Any:
    if left is None or left is True or left == right:
        return right
    if right is True:
        return left
    return False if False in (left, right) else {"allOf": [left, right]}


def _common_types(left: Any, right: Any) -> list[str]:
    a, b = ([t] if isinstance(t, str) else list(t) for t in (left, right))
    common = [t for t in a if t in b]
    if "integer" not in common and (("integer" in a and "number" in b) or ("number" in a and "integer" in b)):
        common.append("integer")
    return common


def _refused(why: str) -> SchemaImpossible:
    return SchemaImpossible(f"the JSON schema is refused: {why}", remedy="change the schema", param="response_format")
