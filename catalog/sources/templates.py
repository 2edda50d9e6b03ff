"""``{{server.parameter|function}}`` and ``${ENV}``: which references a document makes, and which of them lead nowhere.

Source of the syntax: ``pkg/eval`` of github.com/docker/mcp-gateway at 2bd20fe8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TEMPLATE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_ENV = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
FUNCTIONS = frozenset({"volume", "volume-target", "into", "first", "last", "or", "mount_as"})


def references(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each template in ``text`` as (dotted path, function names)."""
    for expression in _TEMPLATE.findall(text):
        path, *functions = (part.strip() for part in expression.split("|"))
        yield path, [f.partition(":")[0] for f in functions]


def env_references(text: str) -> list[str]:
    return _ENV.findall(text)


def unfinished(text: str) -> bool:
    """Braces that open a template and never close it."""
    return "{{" in _TEMPLATE.sub("", text)


def resolves(path: str, properties: Mapping[str, Any]) -> bool:
    """Whether dotted ``path`` names a declared parameter; an object that lists no properties holds any."""
    here: Any = {"properties": properties}
    for part in path.split("."):
        inner = here.get("properties") if isinstance(here, Mapping) else None
        if not isinstance(inner, Mapping):
            return isinstance(here, Mapping) and here.get("type") == "object"
        if part not in inner:
            return False
        here = inner[part]
    return True
