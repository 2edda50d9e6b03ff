"""Every text that a schema's grammar allows is valid: drawn at random and judged by jsonschema."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest

from runner.errors import SchemaImpossible
from runner.grammar.schema import grammar_of_schema, json_object_grammar
from runner.grammar.validate import problems
from tests.runner.gbnf import Drawer
from tests.runner.schemas import SCHEMAS


@pytest.mark.parametrize("name", SCHEMAS)
def test_whatever_the_grammar_allows_is_valid(name: str) -> None:
    schema = SCHEMAS[name]
    drawer = Drawer(grammar_of_schema(schema), random.Random(name))
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    texts = {drawer.draw() for _ in range(60)}
    for text in texts:
        validator.validate(json.loads(text))


def test_bounds_are_reached_and_not_passed() -> None:
    drawer = Drawer(grammar_of_schema({"type": "integer", "minimum": 8, "maximum": 12}), random.Random(1))
    assert {drawer.draw() for _ in range(300)} == {"8", "9", "10", "11", "12"}


def test_any_json_object_is_an_object() -> None:
    drawer = Drawer(json_object_grammar(), random.Random(2))
    assert all(isinstance(json.loads(drawer.draw()), dict) for _ in range(50))


IMPOSSIBLE: dict[str, tuple[Any, str]] = {
    "false": (False, "no value"),
    "crossed numbers": ({"type": "integer", "minimum": 5, "maximum": 4}, "no number"),
    "crossed lengths": ({"type": "string", "minLength": 5, "maxLength": 4}, "at least 5"),
    "crossed items": ({"type": "array", "minItems": 2, "maxItems": 1}, "at least 2"),
    "enum of another type": ({"type": "integer", "enum": ["a"]}, "none of the listed"),
    "parts that exclude each other": ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "exclude"),
    "a required property that is forbidden": (
        {"type": "object", "required": ["x"], "additionalProperties": False},
        "does not allow",
    ),
    "endless": (
        {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]},
        "endless",
    ),
    "no schema": ({"type": "nothing"}, "no JSON schema"),
    "a reference that leads nowhere": ({"$ref": "#/$defs/x"}, "leads nowhere"),
    "a reference that leads outside": ({"$ref": "https://example.org/schema.json"}, "outside"),
    "what cannot be kept": ({"type": "array", "uniqueItems": True}, "uniqueItems"),
    "not": ({"not": {"type": "string"}}, "not cannot"),
    "overlapping alternatives": ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf"),
    "a pattern that looks ahead": ({"type": "string", "pattern": "^(?=a)b"}, "pattern"),
    "too many characters": ({"type": "string", "minLength": 5000}, "more than 1000"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_schema_is_refused_with_the_reason(name: str) -> None:
    schema, reason = IMPOSSIBLE[name]
    with pytest.raises(SchemaImpossible, match=reason):
        grammar_of_schema(schema)


def test_a_deep_schema_is_refused_and_not_followed_to_the_end() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        schema = {"type": "array", "items": schema}
    with pytest.raises(SchemaImpossible, match="deep"):
        grammar_of_schema(schema)


def test_a_schema_that_doubles_at_each_step_is_refused() -> None:
    definitions = {f"d{i}": {"allOf": [{"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 4}]} for i in range(20)}
    schema = {"$defs": {**definitions, "d20": {"type": "string"}}, "$ref": "#/$defs/d0"}
    assert len(grammar_of_schema(schema)) < 10_000


def test_what_a_grammar_cannot_keep_is_left_to_the_validator_when_asked() -> None:
    schema = {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "minItems": 2}
    assert grammar_of_schema(schema, strict=False)
    assert problems([1, 1], schema)
    assert not problems([1, 2], schema)


def test_a_pattern_that_never_ends_is_not_run_on_values() -> None:
    assert problems("a" * 40 + "!", {"type": "string", "pattern": "^(a+)+$"}) == []


def test_a_reference_to_the_network_is_not_followed_when_checking() -> None:
    assert "cannot be checked" in problems({}, {"$ref": "http://127.0.0.1:9/schema"})[0]


def test_a_schema_that_would_take_for_ever_is_not_checked() -> None:
    laughs = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    schema = {"$defs": {**laughs, "a40": {"const": 2}}, "enum": [1, 2], "anyOf": [{"$ref": "#/$defs/a0"}]}
    assert "cannot be checked" in problems(1, schema)[0]
    with pytest.raises(SchemaImpossible):
        grammar_of_schema(schema)
