"""How many steps checking a value may take is known before the first."""

from __future__ import annotations

from typing import Any

import pytest

from harbourmaster.core.schema_cost import CHEAP, MAX_SUBSCHEMAS, Cost, TooCostly

LIMIT = 1_000_000


def chain(keyword: str, length: int) -> dict[str, Any]:
    """Each definition asks twice for the next."""
    steps = {f"a{n}": {keyword: [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(length)}
    return {"$defs": {**steps, f"a{length}": {"type": "object"}}, "$ref": "#/$defs/a0"}


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"x": value}
    return value


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_definitions_that_double_are_refused_whatever_the_value(keyword: str) -> None:
    with pytest.raises(TooCostly):
        Cost(chain(keyword, 40)).check({}, LIMIT)
    Cost(chain(keyword, 6)).check({}, LIMIT)


def test_a_schema_that_doubles_with_every_level_is_good_for_few_levels() -> None:
    branch = {"properties": {"x": {"$ref": "#"}}}
    cost = Cost({"anyOf": [branch, branch]})
    cost.check(nested(10), LIMIT)
    for depth in (20, 200):
        with pytest.raises(TooCostly):
            cost.check(nested(depth), LIMIT)


def test_a_schema_that_goes_down_once_for_each_place_is_good_for_any_depth() -> None:
    tree = {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "x": {"$ref": "#"}}}
    Cost(tree).check(nested(900), LIMIT)
    Cost({"$id": "https://x.test/a", "items": {"$ref": "https://x.test/a"}}).check([[[]]] * 1000, LIMIT)
    Cost({"properties": {f"p{n}": {"anyOf": [{"type": "string"}, {"type": "null"}]} for n in range(2000)}}).check(
        {f"p{n}": None for n in range(2000)}, LIMIT
    )


def test_many_alternatives_are_good_for_few_items() -> None:
    cost = Cost({"items": {"anyOf": [{"const": n} for n in range(1000)]}})
    cost.check(list(range(500)), LIMIT)
    with pytest.raises(TooCostly):
        cost.check(list(range(5000)), LIMIT)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"$anchor": "me", "not": {"$ref": "#me"}},
        {"enum": [{} for _ in range(MAX_SUBSCHEMAS + 1)]},
    ],
)
def test_what_asks_for_itself_at_the_same_place_or_is_enormous_is_no_schema_to_use(schema: Any) -> None:
    with pytest.raises(TooCostly):
        Cost(schema)


def test_names_and_escapes_lead_where_a_validator_goes() -> None:
    for target in ("#wide", "#/$defs/a~1b%20c", "#/$defs/list/0"):
        wide = {"anyOf": [{"const": n} for n in range(CHEAP + 1)]}
        named = {"$defs": {"n": {**wide, "$anchor": "wide"}, "a/b c": wide, "list": [wide]}}
        with pytest.raises(TooCostly):
            Cost({**named, "$ref": target}).check([1] * 100, 1000)


@pytest.mark.parametrize("schema", [True, False, {}, {"type": "object"}, {"$ref": "#/nowhere"}, {"items": [1, 2]}])
def test_usual_and_odd_schemas_cost_next_to_nothing(schema: Any) -> None:
    Cost(schema).check({"a": [1, 2, {"b": None}]}, LIMIT)
