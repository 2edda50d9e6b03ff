"""Values against JSON schemas, when both may come from strangers.

References never leave the schema (the library would fetch them), and patterns are not run: Python's regular
expressions can take for ever, and the grammar has already kept every pattern that it can express.
"""

from __future__ import annotations

from typing import Any

import jsonschema
from jsonschema.validators import extend
from referencing import Registry

from harbourmaster.core.schema_cost import Cost, TooCostly

MAX_PROBLEMS = 3
MAX_STEPS = 100_000  # evaluations of one value: about a second, in which nobody else is answered


def _skip(*_arguments: Any) -> None:
    return None


_Validator: Any = extend(jsonschema.Draft202012Validator, {"pattern": _skip, "patternProperties": _skip})


def schema_problem(schema: Any) -> str:
    """Why ``schema`` is no JSON schema; empty when it is one."""
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as e:
        return f"it is no JSON schema: {e.message[:200]}"
    except RecursionError:
        return "it is nested too deeply"
    return ""


def problems(value: Any, schema: Any) -> list[str]:
    """What is wrong with ``value``, in words; empty when nothing is."""
    found = []
    try:
        Cost(schema).check(value, MAX_STEPS)
        for error in _Validator(schema, registry=Registry()).iter_errors(value):
            where = "/".join(str(p) for p in error.absolute_path)
            found.append(f"{where}: {error.message[:200]}" if where else error.message[:200])
            if len(found) == MAX_PROBLEMS:
                break
    except TooCostly as e:
        found.append(f"it cannot be checked: {e}")
    except Exception as e:  # a reference that leads nowhere, a recursion without end: not shown to be valid
        found.append(f"it cannot be checked: {type(e).__name__}")
    return found
