"""What checking a value against a JSON Schema may cost, before it is done.  Pure.

A schema comes from a stranger, and no validator has a limit: forty definitions that each ask twice for the next make a
million million steps of any value (the "billion laughs" of XML), and a recursive one doubles with every level of a value
that the same stranger sends.  So the evaluations at one place of a value are counted first, by depth, from above: what
applies in place (``allOf``, ``anyOf``, ``$ref`` ...) adds up, and of the properties only the costliest counts, because each is at
a place of its own (JSON Schema 2020-12 core, sections 8.2.3 and 10).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

DEEPEST: Final = 16  # levels that are counted; a fan that still grows there grows for ever
MOST: Final = 1 << 40  # where counting stops
MAX_SUBSCHEMAS: Final = 20_000  # of one schema; the largest published ones of tools have some hundreds
CHEAP: Final = 64  # evaluations at each place that need no look at the value
ELSEWHERE: Final = 64  # for a reference that leads to a metaschema, or nowhere

_IN_PLACE: Final = ("not", "if", "then", "else", "$ref", "$dynamicRef", "$recursiveRef")
_IN_PLACE_LISTS: Final = ("allOf", "anyOf", "oneOf")
_BELOW: Final = ("additionalProperties", "propertyNames", "unevaluatedProperties", "items", "additionalItems", "contains",
                 "unevaluatedItems")  # fmt: skip
_MANIFOLD: Final = (*_IN_PLACE, *_IN_PLACE_LISTS, "dependentSchemas", "dependencies", "patternProperties")
_NAMES: Final = ("$anchor", "$dynamicAnchor", "$id", "id")


class TooCostly(ValueError):
    """The schema, or checking this value with it, has no reasonable bound; the message says why."""


class Cost:
    """``fan[d]``: evaluations at any one place of a value at most ``d`` levels deep."""

    def __init__(self, schema: Any) -> None:
        """Raises ``TooCostly`` for one that asks for itself without end, or is too large."""
        self._root = schema
        self._named: dict[str, Any] = {}
        self._known: dict[tuple[int, int], int] = {}
        nodes = list(_walk(schema))
        for node in nodes:
            self._named.update({f"#{node[n]}" if "nchor" in n else node[n]: node for n in _NAMES if _is_text(node, n)})
        simple = not any(key in node for node in nodes for key in _MANIFOLD)
        try:
            fans = [2] if simple else [self._fan(schema, depth, ()) for depth in range(DEEPEST + 1)]
        except RecursionError:
            raise TooCostly("it is nested too deeply") from None
        self.fan = [max(fans[: depth + 1]) for depth in range(len(fans))]
        self._known.clear()

    def check(self, value: Any, limit: int) -> None:
        """Raise ``TooCostly`` where ``value`` may take more than ``limit`` evaluations."""
        if self.fan[-1] <= CHEAP:
            return
        places, depth = _measured(value, limit // self.fan[0])
        grows = len(self.fan) > DEEPEST and self.fan[DEEPEST] > self.fan[DEEPEST // 2]
        fan = self.fan[min(depth, len(self.fan) - 1)]
        if (grows and depth > DEEPEST) or places * fan > limit:
            raise TooCostly(f"checking a value of {depth} levels could take more than {limit} steps")

    def _fan(self, schema: Any, depth: int, above: tuple[int, ...]) -> int:
        """At the place that lies ``depth`` levels below where ``schema`` applies.  ``above``: what applies at this very place."""
        if not isinstance(schema, dict):
            return 1
        key = (id(schema), depth)
        known = self._known.get(key)
        if known is not None:
            return known
        if id(schema) in above or len(above) > MAX_SUBSCHEMAS:
            raise TooCostly("it asks for itself without end")
        here = (*above, id(schema))
        found = 1 if depth == 0 else self._below(schema, depth - 1)
        for child in self._in_place(schema):
            found += self._fan(child, depth, here) if child is not _UNKNOWN else ELSEWHERE
        self._known[key] = min(found, MOST)
        return self._known[key]

    def _below(self, schema: dict[str, Any], depth: int) -> int:
        properties, patterns = _dict(schema, "properties"), _dict(schema, "patternProperties")
        items, first = schema.get("items"), schema.get("prefixItems")
        tuples = [*(items if isinstance(items, list) else ()), *(first if isinstance(first, list) else ())]
        others = [schema[key] for key in _BELOW if isinstance(schema.get(key), dict)]
        alone = [self._fan(each, depth, ()) for each in (*properties.values(), *tuples)]
        return max(alone, default=0) + sum(self._fan(each, depth, ()) for each in (*patterns.values(), *others))

    def _in_place(self, schema: dict[str, Any]) -> Iterator[Any]:
        for key in _IN_PLACE:
            if key in schema:
                yield self._resolved(schema[key]) if key[0] == "$" else schema[key]
        for key in _IN_PLACE_LISTS:
            yield from schema[key] if isinstance(schema.get(key), list) else ()
        yield from _dict(schema, "dependentSchemas").values()
        yield from _dict(schema, "dependencies").values()

    def _resolved(self, target: Any) -> Any:
        """RFC 6901 pointers and names within the schema."""
        if not isinstance(target, str):
            return _UNKNOWN
        if target in self._named:
            return self._named[target]
        base, _, pointer = target.partition("#")
        place = self._named.get(base, self._root if not base else _UNKNOWN)
        for step in pointer.split("/")[1:] if pointer else ():
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            try:
                place = place[int(key)] if isinstance(place, list) else place[key]
            except (KeyError, IndexError, ValueError, TypeError):
                return _UNKNOWN
        return place


_UNKNOWN: Final[Any] = object()


def _walk(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object in ``schema``, whatever it stands for.  Raises ``TooCostly``."""
    todo, seen = [schema], 0
    while todo:
        each = todo.pop()
        if isinstance(each, dict):
            seen += 1
            if seen > MAX_SUBSCHEMAS:
                raise TooCostly(f"it has more than {MAX_SUBSCHEMAS} parts")
            yield each
            todo += each.values()
        elif isinstance(each, list):
            todo += each


def _measured(value: Any, most: int) -> tuple[int, int]:
    """(places, levels) of ``value``; counting stops beyond ``most`` places."""
    places, depth, level = 0, -1, [value]
    while level and places <= most:
        depth += 1
        places += len(level)
        level = [inner for each in level if isinstance(each, dict | list)
                 for inner in (each.values() if isinstance(each, dict) else each)]  # fmt: skip
    return places, max(depth, 0)


def _dict(schema: dict[str, Any], key: str) -> dict[str, Any]:
    found = schema.get(key)
    return found if isinstance(found, dict) else {}


def _is_text(node: dict[str, Any], key: str) -> bool:
    return isinstance(node.get(key), str)
