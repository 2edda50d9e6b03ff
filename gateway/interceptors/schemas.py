"""What a tool's locked schemas say about its arguments and results, checked by validators compiled once.

``jsonschema-rs``: it passes the official test suite for the dialects it knows, and a warm check of a usual call costs 0.2
microseconds (fastjsonschema: 0.9, and it writes and runs Python for schemas that strangers wrote).  References are
resolved within the schema alone; nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import jsonschema_rs

from gateway.interceptors.errors import ArgumentsInvalid, OutputInvalid, SchemaUnusable
from gateway.lock import LockedServer
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.schema_cost import Cost, TooCostly

_MAX_ERRORS: Final = 5  # told at once
_MAX_TEXT: Final = 300  # characters of one
_BACKTRACKS: Final = 100_000  # of a pattern; what needs more is refused instead of waited for
_STEPS: Final = 10_000_000  # evaluations of one value, about a second: all clients of the gateway wait meanwhile


class ToolSchemas:
    """One tool's.  ``arguments`` and ``output``: validators, the reason why there can be none, or None."""

    __slots__ = ("arguments", "output")

    arguments: Compiled
    output: Compiled

    def __init__(self, tool: Mapping[str, Any]) -> None:
        self.arguments = _compiled(tool.get("inputSchema"))
        self.output = _compiled(tool.get("outputSchema"))


class Checker:
    """A validator, and what it costs."""

    __slots__ = ("_cost", "_validator")

    def __init__(self, schema: dict[str, Any] | bool) -> None:
        """Raises ``ValueError`` where the schema cannot be used."""
        self._cost = Cost(schema)
        self._validator = jsonschema_rs.validator_for(
            schema,
            offline=True,
            validate_formats=False,  # annotations alone, unless a dialect says otherwise (2020-12 section 7.2.1)
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS),
            mask="...",
        )

    def is_valid(self, value: Any) -> bool:
        """Raises ``TooCostly``: nothing is known of the value then."""
        self._cost.check(value, _STEPS)
        return self._validator.is_valid(value)

    def errors(self, value: Any) -> Iterator[jsonschema_rs.ValidationError]:
        """After ``is_valid``."""
        return self._validator.iter_errors(value)


Compiled = Checker | str | None


class Schemas:
    """Those of every tool that was called, compiled at its first call under this lock."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[LockedServer, dict[str, ToolSchemas]]] = {}

    def of(self, server: LockedServer, tool: str) -> ToolSchemas:
        known = self._known.get(server.name)
        if known is None or known[0] is not server:
            known = self._known[server.name] = (server, {})
        found = known[1].get(tool)
        if found is None:
            listed = next((t for t in server.listing.get("tools") or [] if t["name"] == tool), None)
            found = known[1][tool] = ToolSchemas(listed) if listed is not None else NO_SCHEMAS
        return found


def check_arguments(schemas: ToolSchemas, arguments: Any, tool: str, *, lenient: bool) -> None:
    """Raises ``ArgumentsInvalid``, ``SchemaUnusable``."""
    validator = _usable(schemas.arguments, tool, "arguments", lenient)
    if validator is None:
        return
    problems = _problems(validator, arguments)
    if problems:
        raise ArgumentsInvalid(
            f"the arguments of {tool} are not what it takes: {problems}", remedy="correct them and call again"
        )


def check_output(schemas: ToolSchemas, result: Mapping[str, Any], tool: str, *, lenient: bool) -> None:
    """A result that is no error must have the structured content that the tool promised (2025-11-25, tools, "Output
    Schema").  Raises ``OutputInvalid``, ``SchemaUnusable``."""
    validator = _usable(schemas.output, tool, "results", lenient)
    if validator is None or result.get("isError") is True:
        return
    if "structuredContent" not in result:
        raise _output(tool, "it has no structured content")
    problems = _problems(validator, result["structuredContent"])
    if problems:
        raise _output(tool, problems)


def _output(tool: str, why: str) -> HarbourError:
    return OutputInvalid(
        f"the result of {tool} is not what it promised, so it is withheld: {why}",
        remedy="report it to the server's author; output_schema in [interceptors] decides about this check",
    )


def _usable(compiled: Compiled, tool: str, what: str, lenient: bool) -> Checker | None:
    if isinstance(compiled, str):
        if lenient:
            return None
        raise SchemaUnusable(
            f"the {what} of {tool} cannot be checked, its schema is not valid: {compiled}",
            remedy='report it to the server\'s author, or set its check to "lenient" in [interceptors]',
        )
    return compiled


def _problems(validator: Checker, value: Any) -> str:
    """What is wrong, in words without the values; empty where nothing is."""
    try:
        if validator.is_valid(value):
            return ""
        found = []
        for error in validator.errors(value):
            where = "/".join(str(step) for step in error.instance_path)
            found.append(f"{where or 'they'}: {_masked(error)}")
            if len(found) == _MAX_ERRORS:
                break
        return "; ".join(found) or "they do not match"
    except TooCostly as e:
        return f"they cannot be checked: {e}"
    except (ValueError, RecursionError) as e:  # nested too deeply, or half a character
        return f"they cannot be read: {e}"[:_MAX_TEXT]


def _masked(error: jsonschema_rs.ValidationError) -> str:
    """Values are masked by the validator; names that it repeats may be long."""
    return error.message[:_MAX_TEXT]


def _compiled(schema: Any) -> Compiled:
    if schema is None:
        return None
    if not isinstance(schema, dict | bool):
        return "a schema is an object"
    try:
        return Checker(schema)
    except (ValueError, RecursionError) as e:
        return str(e).partition("\n")[0][:_MAX_TEXT]


NO_SCHEMAS: Final = ToolSchemas({})
