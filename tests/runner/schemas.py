"""JSON schemas that the runner can keep."""

from __future__ import annotations

from typing import Any

OBJECT = {"type": "object"}
SCHEMAS: dict[str, Any] = {
    "anything": True,
    "an object": OBJECT,
    "types": {"type": ["string", "null", "boolean"]},
    "enum": {"enum": ["a", 1, None, {"x": [1, 'é"\\\n']}, 1.5]},
    "const": {"const": 'a "quoted" \\ word\n'},
    "enum within a type": {"type": "string", "enum": ["a", 1, "b"]},
    "properties": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "boolean"}},
        "required": ["b"],
        "additionalProperties": False,
    },
    "all optional": {"properties": {"a": {"type": "null"}, "b": {"type": "null"}, "c": {"type": "null"}}},
    "last required": {"properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "required": ["b"]},
    "a required property nobody declared": {"type": "object", "required": ["x"]},
    "a map": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
    "an odd key": {"properties": {'a "b" \\ é\n': {"const": 1}}, "required": ['a "b" \\ é\n'], "type": "object"},
    "strings by length": {"type": "string", "minLength": 2, "maxLength": 5},
    "pattern anchored": {"type": "string", "pattern": "^[A-Z]{2,3}-[0-9]+(\\.[a-f])?$"},
    "pattern floating": {"type": "string", "pattern": "ab+c"},
    "pattern with choices": {"type": "string", "pattern": '^(foo|ba[rz]|"q\\\\u")$'},
    "pattern with classes": {"type": "string", "pattern": "^[^a-z\\s]{3}\\d\\w.$"},
    "pattern of wide ranges": {"type": "string", "pattern": "^[!-~]{1,8}$"},
    "date": {"type": "string", "format": "date"},
    "date-time": {"type": "string", "format": "date-time"},
    "uuid": {"type": "string", "format": "uuid"},
    "whole numbers": {"type": "integer", "minimum": 5, "maximum": 1234},
    "negative numbers": {"type": "integer", "minimum": -17, "maximum": 3},
    "very negative numbers": {"type": "integer", "maximum": -8},
    "exclusive": {"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 101},
    "fractions": {"type": "number", "minimum": 1.5, "maximum": 20.25},
    "fractions around nothing": {"type": "number", "minimum": -2.5, "maximum": 2.5},
    "fractions below": {"type": "number", "maximum": -3},
    "exclusive fractions": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
    "arrays": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
    "an empty array": {"type": "array", "maxItems": 0},
    "tuples": {"type": "array", "prefixItems": [{"const": 1}, {"type": "string"}], "items": False},
    "tuples of enough": {"type": "array", "prefixItems": [{"const": 1}], "items": {"type": "null"}, "minItems": 3},
    "anyOf": {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}]},
    "anyOf beside properties": {
        "type": "object",
        "properties": {"kind": {"type": "string"}},
        "required": ["kind"],
        "anyOf": [{"properties": {"kind": {"const": "a"}}}, {"properties": {"kind": {"const": "b"}}}],
    },
    "oneOf told apart": {
        "oneOf": [
            {"type": "object", "properties": {"t": {"const": 1}, "x": OBJECT}, "required": ["t"]},
            {"type": "object", "properties": {"t": {"const": 2}}, "required": ["t"]},
        ]
    },
    "allOf": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"a": {"minimum": 3}, "b": {"type": "string"}}, "required": ["b"]},
        ]
    },
    "references": {
        "$defs": {"word": {"type": "string", "maxLength": 4}},
        "type": "array",
        "items": {"$ref": "#/$defs/word"},
    },
    "a tree": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name"],
    },
    "a narrowed reference": {
        "$defs": {"n": {"type": "integer", "minimum": 0}},
        "properties": {"x": {"$ref": "#/$defs/n", "maximum": 5}},
        "required": ["x"],
        "type": "object",
    },
    "an impossible option left out": {"anyOf": [False, {"const": 7}]},
    "an impossible property left out": {"type": "object", "properties": {"a": False, "b": {"const": 1}}},
    "names that could be rules": {"type": "object", "properties": {"root": {"const": 1}, "char": {"const": 2}}},
}
