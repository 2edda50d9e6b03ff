"""Keywords of JSON Schema that a grammar does not keep."""

from __future__ import annotations

from typing import Any

_NEVER = (  # noqa: SIM905
    "not if then else patternProperties propertyNames minProperties maxProperties contains minContains maxContains"
    " uniqueItems dependentRequired dependentSchemas dependencies unevaluatedProperties unevaluatedItems $dynamicRef"
    " $recursiveRef contentSchema"
).split()


def unkept(schema: dict[str, Any]) -> str:
    """The first keyword of ``schema`` itself (not of its parts) that narrows more than a grammar can; or nothing."""
    for keyword in _NEVER:
        value = schema.get(keyword)
        if value is None or (keyword == "uniqueItems" and value is False):
            continue
        if keyword == "minProperties" and value <= len(schema.get("required", [])):
            continue
        if keyword == "maxProperties" and "properties" in schema and value >= len(schema["properties"]):
            continue
        if keyword in ("unevaluatedProperties", "unevaluatedItems") and "properties" in schema:
            continue  # nothing that is not declared is written
        return keyword
    if "multipleOf" in schema and not _is_harmless_multiple(schema):
        return "multipleOf"
    if "pattern" in schema and ({"minLength", "maxLength"} & schema.keys()):
        return "a pattern together with a length"
    if "oneOf" in schema and not _disjoint(schema["oneOf"]):
        return "oneOf whose alternatives overlap"
    return ""


def _is_harmless_multiple(schema: dict[str, Any]) -> bool:
    return schema["multipleOf"] == 1 and schema.get("type") == "integer"


def _disjoint(options: list[Any]) -> bool:
    """Can no value satisfy two of them?  Told by their types, or by a required property with different constants."""
    return all(_apart(a, b) for i, a in enumerate(options) for b in options[i + 1 :])


def _apart(left: Any, right: Any) -> bool:
    if not isinstance(left, dict) or not isinstance(right, dict):
        return False
    listed = _values(left), _values(right)
    if listed[0] is not None and listed[1] is not None:
        return not any(value in listed[1] for value in listed[0])
    kinds = _kinds(left), _kinds(right)
    if kinds[0] and kinds[1] and not (kinds[0] & kinds[1]):
        return True
    shared = set(left.get("required", [])) & set(right.get("required", []))
    return any(_differ(left, right, key) for key in shared)


def _differ(left: dict[str, Any], right: dict[str, Any], key: str) -> bool:
    a, b = left.get("properties", {}).get(key), right.get("properties", {}).get(key)
    return isinstance(a, dict) and isinstance(b, dict) and {"const", "enum"} & a.keys() != set() and _apart(a, b)


def _values(schema: dict[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    value = schema.get("enum")
    return value if isinstance(value, list) else None


def _kinds(schema: dict[str, Any]) -> set[str]:
    kinds = schema.get("type", [])
    found = {kinds} if isinstance(kinds, str) else set(kinds)
    return found | {"integer"} if "number" in found else found
