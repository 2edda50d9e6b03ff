"""Two listings of one server as a person reviews them: what was said and what is said now, and what to be wary of.  Pure.

Lines begin with ``+`` (new), ``-`` (gone), ``~`` (changed) or ``!`` (look closely).  Nothing a server wrote can drive a
terminal: every character that cannot be seen is spelt out.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.drift import INSTRUCTIONS, LISTS
from gateway.suspicion import shown, suspicions

Listing = Mapping[str, Any]

_ONE: Final = {"tools": "tool", "prompts": "prompt", "resources": "resource", "resourceTemplates": "resource template"}


def review(before: Listing, after: Listing, neighbours: Mapping[str, Listing] | None = None) -> list[str]:
    """Lines for people; none when the closed set is the same.  ``neighbours``: the other servers' listings, by name."""
    lines = list(_text(INSTRUCTIONS, before.get(INSTRUCTIONS), after.get(INSTRUCTIONS), ""))
    told = bool(lines)
    if told:
        lines += _wary({INSTRUCTIONS: after.get(INSTRUCTIONS)}, "", after, neighbours)
    for part, word in _ONE.items():
        key = LISTS[part][2]
        old, new = _named(before, part, key), _named(after, part, key)
        for name in sorted(old.keys() | new.keys()):
            lines += _item(word, name, old.get(name, []), new.get(name, []), after, neighbours)
    return [shown(line) for line in lines]


def _named(listing: Listing, part: str, key: str) -> dict[str, list[dict[str, Any]]]:
    named: dict[str, list[dict[str, Any]]] = {}
    for item in listing.get(part) or []:
        named.setdefault(item[key], []).append(item)
    return named


def _item(
    word: str,
    name: str,
    old: list[dict[str, Any]],
    new: list[dict[str, Any]],
    after: Listing,
    neighbours: Mapping[str, Listing] | None,
) -> Iterator[str]:
    if not new:
        yield f"- {word} {name} is gone"
        return
    fresh = [item for item in new if _json(item) not in {_json(each) for each in old}]
    if not fresh and len(new) == len(old):
        return
    yield f"{'~' if old else '+'} {word} {name} {'changed' if old else 'is new'}"
    if len(new) > 1:
        yield f"  ! it is listed {len(new)} times"
    for item in fresh:
        yield from _fields(old[0] if old else {}, item)
        yield from _wary(item, name, after, neighbours)


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key), new.get(key)
        if _json(was) == _json(now) or key in ("name", "uri", "uriTemplate"):
            continue
        if key == "inputSchema":
            yield from _schema(was, now)
        elif key in ("annotations", "_meta") or (isinstance(was, dict) and isinstance(now, dict)):
            yield from _members(key, was, now)
        elif key == "arguments":
            yield from _members("argument", _by_name(was), _by_name(now))
        else:
            yield from _text(key, was, now, "  ")


def _schema(old: Any, new: Any) -> Iterator[str]:
    """Parameters one by one, then whatever else the schema says."""
    was, now = (_properties(schema) for schema in (old, new))
    yield from _members("parameter", was, now)
    rest = [{k: v for k, v in s.items() if k not in ("properties", "required")} for s in (_dict(old), _dict(new))]
    yield from _members("schema", *rest)


def _properties(schema: Any) -> dict[str, Any]:
    properties, required = _dict(_dict(schema).get("properties")), _dict(schema).get("required")
    needed = set(map(str, required)) if isinstance(required, list) else set()
    return {n: {**_dict(p), "required": n in needed} if isinstance(p, dict) else p for n, p in properties.items()}


def _members(word: str, old: Any, new: Any) -> Iterator[str]:
    was, now = _dict(old), _dict(new)
    for name in sorted(was.keys() | now.keys()):
        if name not in now:
            yield f"  - {word} {name}: {_json(was[name])}"
        elif name not in was:
            yield f"  + {word} {name}: {_json(now[name])}"
        elif _json(was[name]) != _json(now[name]):
            yield f"  ~ {word} {name}"
            yield f"      was: {_json(was[name])}"
            yield f"      now: {_json(now[name])}"


def _text(what: str, old: Any, new: Any, indent: str) -> Iterator[str]:
    """Old and new lines; what stayed is shown where it gives the change its place."""
    if old == new:
        return
    yield f"{indent}~ {what}" if old and new else f"{indent}+ {what}" if new else f"{indent}- {what}"
    was, now = (
        (value if isinstance(value, str) else _json(value)).splitlines() if value else [] for value in (old, new)
    )
    for line in difflib.ndiff(was, now):
        if not line.startswith("? "):
            yield f"{indent}    {line}"


def _wary(
    item: Mapping[str, Any], name: str, listing: Listing, neighbours: Mapping[str, Listing] | None
) -> Iterator[str]:
    for reason in suspicions(item, name, listing, neighbours or {}):
        yield f"  ! {reason}"


def _by_name(arguments: Any) -> dict[str, Any]:
    found = arguments if isinstance(arguments, list) else []
    return {str(a["name"]): a for a in found if isinstance(a, dict) and "name" in a}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
