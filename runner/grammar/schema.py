"""JSON Schema (draft 2020-12 and 7) to a grammar in which every text is valid.

The grammar may be narrower than the schema (a fixed order of properties, no extra ones), never wider.  What cannot be
kept (``uniqueItems``, ``not``, ...) is an error when ``strict``; else it is left to the validator that sees the result.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from runner.errors import SchemaImpossible
from runner.grammar import numbers, strings, validate
from runner.grammar.merge import merged
from runner.grammar.nodes import EMPTY, MAX_REPEAT, SPACE, Grammar, Node, Ref, Repeat, choice, seq
from runner.grammar.unkept import unkept

MAX_DEPTH = 64
MAX_SCHEMAS = 5000  # subschemas, references expanded once
MAX_GBNF = 512 << 10
TYPES = ("string", "number", "integer", "boolean", "null", "object", "array")


class _Nothing(Exception):
    """No value satisfies the subschema."""


def grammar_of_schema(schema: Any, *, strict: bool = True) -> str:
    """GBNF; raises ``SchemaImpossible``.

    >>> grammar_of_schema({"enum": ["yes", "no"]})
    'root ::= "\\\\"yes\\\\"" | "\\\\"no\\\\""\\n'
    """
    grammar = Grammar()
    grammar.rules["root"] = add_schema(grammar, schema, strict=strict)
    return finish(grammar)


def finish(grammar: Grammar) -> str:
    if not grammar.ends():
        raise _impossible("every value that satisfies it would be endless")
    written = grammar.write()
    if len(written) > MAX_GBNF:
        raise _impossible(f"its grammar has more than {MAX_GBNF} characters")
    return written


def json_object_grammar() -> str:
    return grammar_of_schema({"type": "object"})


def add_schema(grammar: Grammar, schema: Any, *, strict: bool) -> Node:
    """The node of ``schema``'s values, with the rules it needs added to ``grammar``."""
    if problem := validate.schema_problem(schema):
        raise _impossible(problem)
    try:
        return _Compiler(grammar, schema, strict).value(schema, "value", 0)
    except _Nothing as e:
        raise _impossible(f"no value satisfies it: {e}") from e


@dataclass
class _Compiler:
    grammar: Grammar
    root: Any
    strict: bool
    named: dict[str, str] = field(default_factory=dict)  # $ref -> rule
    chain: list[str] = field(default_factory=list)  # references being followed without anything between them
    count: int = 0

    def value(self, schema: Any, name: str, depth: int) -> Node:
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_SCHEMAS:
            raise _impossible("it is too large or nested too deeply")
        if schema is True or schema == {}:
            return self.anything()
        if schema is False:
            raise _Nothing(f"{name} may have no value")
        if "$ref" in schema:
            return self.reference(schema, name, depth)
        if self.strict and (why := unkept(schema)):
            raise _impossible(f"{why} cannot be enforced while generating")
        if "allOf" in schema:
            combined = merged(schema, self.resolve, strict=self.strict)
            if combined is None:
                raise _Nothing(f"the parts of allOf in {name} exclude each other")
            return self.value(combined, name, depth + 1)
        if "const" in schema or "enum" in schema:
            return self.listed(schema, name)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self.alternatives(schema, keyword, name, depth)
        return self.typed(schema, name, depth)

    # -- references and combinations

    def reference(self, schema: dict[str, Any], name: str, depth: int) -> Node:
        target = schema["$ref"]
        siblings = {
            k: v for k, v in schema.items() if k not in ("$ref", "$defs", "definitions", "description", "title")
        }
        if siblings:
            return self.value({"allOf": [{"$ref": target}, siblings]}, name, depth + 1)
        if target not in self.named:
            rule = self.named[target] = self.grammar.reserve(target.rpartition("/")[2] or "root-value")
            self.grammar.rules[rule] = self.value(self.resolve(target), rule, depth + 1)
        return Ref(self.named[target])

    def resolve(self, target: Any) -> Any:
        """RFC 6901 pointers into this schema; other addresses are never fetched."""
        if not isinstance(target, str) or not target.startswith("#"):
            raise _impossible(f"the reference {target!r} leads outside of it")
        place = self.root
        for step in target[1:].split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            try:
                place = place[int(key)] if isinstance(place, list) else place[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise _impossible(f"the reference {target!r} leads nowhere") from None
        return place

    def alternatives(self, schema: dict[str, Any], keyword: str, name: str, depth: int) -> Node:
        rest = {k: v for k, v in schema.items() if k != keyword}
        options, reasons = [], []
        for i, option in enumerate(schema[keyword]):
            try:
                both = option if not _constrains(rest) else {"allOf": [rest, option]}
                options.append(self.value(both, f"{name}-{i}", depth + 1))
            except _Nothing as e:
                reasons.append(str(e))
        if not options:
            raise _Nothing("; ".join(reasons) or f"{name} has no alternatives")
        return choice(options)

    def listed(self, schema: dict[str, Any], name: str) -> Node:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        others = {k: v for k, v in schema.items() if k not in ("$defs", "definitions")}
        valid = [v for v in values if _is_valid(v, others, self.root)]
        if not valid:
            raise _Nothing(f"none of the listed values of {name} fits its other rules")
        return choice([seq(json.dumps(v, ensure_ascii=False)) for v in valid])

    # -- types

    def typed(self, schema: dict[str, Any], name: str, depth: int) -> Node:
        kinds = schema.get("type") or _implied_types(schema)
        options, reasons = [], []
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            try:
                options.append(self.of_type(kind, schema, name, depth))
            except _Nothing as e:
                reasons.append(str(e))
        if not options:
            raise _Nothing("; ".join(reasons))
        return choice(options)

    def of_type(self, kind: str, schema: dict[str, Any], name: str, depth: int) -> Node:
        if kind == "object":
            return self.object(schema, name, depth)
        if kind == "array":
            return self.array(schema, name, depth)
        if kind == "string":
            return self.string(schema, name)
        if kind in ("integer", "number"):
            return _number(kind, schema, name)
        return choice([seq("true"), seq("false")]) if kind == "boolean" else seq("null")

    def string(self, schema: dict[str, Any], name: str) -> Node:
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        if most is not None and least > most:
            raise _Nothing(f"{name} would have at least {least} and at most {most} characters")
        if least > MAX_REPEAT:
            raise _impossible(f"{name} would have more than {MAX_REPEAT} characters")
        if "pattern" in schema:
            try:
                return strings.matching(schema["pattern"])
            except strings.NotExpressible as e:
                if self.strict:
                    raise _impossible(f"the pattern of {name} cannot be enforced: {e}") from e
        elif (formatted := strings.of_format(schema.get("format", ""))) is not None:
            return formatted
        return strings.plain(least, None if most is None else int(most))

    def object(self, schema: dict[str, Any], name: str, depth: int) -> Node:
        properties = dict(schema.get("properties", {}))
        required = schema.get("required", [])
        extra = schema.get("additionalProperties", True)
        for key in required:
            if key not in properties:
                if extra is False:
                    raise _Nothing(f"{name} requires {key!r}, which it does not allow")
                properties[key] = extra
        if not properties:
            return self.map(extra, name, depth)
        members: list[tuple[Node, bool]] = []
        for key, sub in properties.items():
            try:
                value = self.value(sub, f"{name}-{key}", depth + 1)
            except _Nothing:
                if key in required:
                    raise
                continue
            members.append((seq(json.dumps(key, ensure_ascii=False), ":", SPACE, value), key in required))
        return seq("{", SPACE, self.members(members, name), SPACE, "}")

    def members(self, members: list[tuple[Node, bool]], name: str) -> Node:
        """In order; a comma before each that is not the first written.  Two rules a member keep the grammar linear."""
        first: Node = EMPTY
        more: Node = EMPTY
        for member, required in reversed(members):
            following = self.rule(seq(",", SPACE, member, more), f"{name}-more")
            starting = self.rule(seq(member, more), f"{name}-first")
            more, first = (following, starting) if required else (choice([following, more]), choice([starting, first]))
        return first

    def map(self, extra: Any, name: str, depth: int) -> Node:
        if extra is False:
            return seq("{", SPACE, "}")
        try:
            value = self.value(extra, f"{name}-value", depth + 1)
        except _Nothing:
            return seq("{", SPACE, "}")
        member = self.rule(seq(strings.plain(0, None), ":", SPACE, value), f"{name}-member")
        return seq("{", SPACE, Repeat(seq(member, Repeat(seq(",", SPACE, member), 0, None)), 0, 1), SPACE, "}")

    def array(self, schema: dict[str, Any], name: str, depth: int) -> Node:
        first = schema.get("prefixItems", [])
        rest = schema.get("items", True)
        if isinstance(rest, list):  # draft 7's tuples
            first, rest = rest, schema.get("additionalItems", True)
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        most = None if most is None else int(most)
        if most is not None and least > most:
            raise _Nothing(f"{name} would have at least {least} and at most {most} items")
        if least > MAX_REPEAT:
            raise _impossible(f"{name} would have more than {MAX_REPEAT} items")
        if first:
            return self.tuple(first, rest, least, most, name, depth)
        try:
            item = self.rule(self.value(rest, f"{name}-item", depth + 1), f"{name}-item")
        except _Nothing:
            if least:
                raise
            return seq("[", SPACE, "]")
        return _list(item, least, most)

    def tuple(self, first: list[Any], rest: Any, least: int, most: int | None, name: str, depth: int) -> Node:
        wanted = max(least, len(first)) if most is None else min(max(least, len(first)), most)
        parts: list[Node | str] = ["[", SPACE]
        for i in range(wanted):
            item = self.value(first[i] if i < len(first) else rest, f"{name}-{i}", depth + 1)
            parts.extend([",", SPACE, item] if i else [item])
        return seq(*parts, SPACE, "]")

    def anything(self) -> Node:
        if "#any" not in self.named:
            rule = self.named["#any"] = self.grammar.reserve("any")
            text, item = strings.plain(0, None), Ref(rule)
            member = seq(text, ":", SPACE, item)
            self.grammar.rules[rule] = choice(
                [
                    text,
                    numbers.number(None, None) or EMPTY,
                    seq("true"),
                    seq("false"),
                    seq("null"),
                    _list(item, 0, None),
                    seq("{", SPACE, Repeat(seq(member, Repeat(seq(",", SPACE, member), 0, None)), 0, 1), SPACE, "}"),
                ]
            )
        return Ref(self.named["#any"])

    def rule(self, node: Node, name: str) -> Ref:
        if isinstance(node, Ref):
            return node
        rule = self.grammar.reserve(name)
        self.grammar.rules[rule] = node
        return Ref(rule)


def _list(item: Node, least: int, most: int | None) -> Node:
    if most == 0:
        return seq("[", SPACE, "]")
    more = None if most is None else min(most, MAX_REPEAT) - 1
    items = seq(item, Repeat(seq(",", SPACE, item), max(least - 1, 0), more))
    return seq("[", SPACE, items if least else Repeat(items, 0, 1), SPACE, "]")


def _number(kind: str, schema: dict[str, Any], name: str) -> Node:
    low, high = _bounds(schema, kind == "integer")
    if kind == "integer":
        node = numbers.whole(None if low is None else math.ceil(low), None if high is None else math.floor(high))
    else:
        node = numbers.number(low, high)
    if node is None:
        raise _Nothing(f"no number that we can write lies between {low} and {high} for {name}")
    return node


def _bounds(schema: dict[str, Any], whole: bool) -> tuple[float | None, float | None]:
    """Inclusive bounds; an exclusive one moves to the next whole number inside, which is narrower, never wider."""
    lows, highs = [schema.get("minimum")], [schema.get("maximum")]
    if isinstance(value := schema.get("exclusiveMinimum"), int | float):
        lows.append(math.floor(value) + 1)
    if isinstance(value := schema.get("exclusiveMaximum"), int | float):
        highs.append(math.ceil(value) - 1)
    low = max((v for v in lows if v is not None), default=None)
    high = min((v for v in highs if v is not None), default=None)
    return low, high


def _implied_types(schema: dict[str, Any]) -> list[str]:
    """Without ``type`` a keyword restricts only its own type; the types that are spoken of are what is meant."""
    spoken = [kind for kind, keywords in _KEYWORDS.items() if keywords & schema.keys()]
    return spoken or list(TYPES)


_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"pattern", "minLength", "maxLength", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
}
_ANNOTATIONS = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs", "definitions"}


def _constrains(schema: dict[str, Any]) -> bool:
    return bool(schema.keys() - _ANNOTATIONS)


def _is_valid(value: Any, schema: dict[str, Any], root: Any) -> bool:
    definitions = {k: root[k] for k in ("$defs", "definitions") if isinstance(root, dict) and k in root}
    return not validate.problems(value, {**definitions, **schema})


def _impossible(why: str) -> SchemaImpossible:
    return SchemaImpossible(f"the JSON schema is refused: {why}", remedy="change the schema", param="response_format")
