"""``{{parameter|function}}`` in a command, an environment or a volume, and what comes of it.  Pure.

Functions as Docker's gateway has them (``pkg/eval`` of github.com/docker/mcp-gateway at 2bd20fe8): ``into`` makes one argument
of each item of a list, ``first`` and ``last`` choose one, ``or:x`` stands in for nothing, and the ``volume`` functions name
a folder of a person's choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FUNCTIONS = ("first", "into", "last", "mount_as", "or", "volume", "volume-target")

_TEMPLATE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_BRACES = re.compile(r"\{\{|\}\}")


@dataclass(frozen=True)
class Template:
    name: str
    functions: tuple[tuple[str, str], ...] = ()  # (name, argument)

    @classmethod
    def parse(cls, inner: str) -> Template:
        name, *calls = (part.strip() for part in inner.split("|"))
        pairs = (call.partition(":") for call in calls)
        return cls(name, tuple((function, argument) for function, _, argument in pairs))


def templates(text: str) -> list[Template]:
    return [Template.parse(inner) for inner in _TEMPLATE.findall(text)]


def unfinished(text: str) -> bool:
    """Whether braces are left over that are no template."""
    return _BRACES.search(_TEMPLATE.sub("", text)) is not None


def fill(text: str, value: Callable[[str], Any]) -> str:
    """``text`` with what ``value`` says of each name; a list becomes words with commas between them."""
    return _TEMPLATE.sub(lambda match: _text(_evaluate(Template.parse(match[1]), value)), text)


def fill_argument(text: str, value: Callable[[str], Any]) -> list[str]:
    """One argument, or as many as the list has that a lone ``{{name|into}}`` stands for."""
    if not splices(text):
        return [fill(text, value)]
    found = _evaluate(templates(text)[0], value)
    items = found if isinstance(found, list) else [found]
    return [_text(item) for item in items if item is not None]


def splices(text: str) -> bool:
    """Whether ``text`` is a lone ``{{name|into}}``: as many words as the list has."""
    match = _TEMPLATE.fullmatch(text)
    return match is not None and any(name == "into" for name, _ in Template.parse(match[1]).functions)


def _evaluate(template: Template, value: Callable[[str], Any]) -> Any:
    found = value(template.name)
    for name, argument in template.functions:
        if name in ("first", "last") and isinstance(found, list):
            found = found[0 if name == "first" else -1] if found else None
        elif name == "or" and found in (None, "", []):
            found = argument
    return found


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(_text(item) for item in value) if isinstance(value, list) else str(value)
