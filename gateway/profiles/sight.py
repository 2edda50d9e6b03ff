"""What of one server's tools, prompts and resources a profile serves.  Pure.

A URI has many spellings, and a server may take them for the same: what is allowed must be so in every spelling, what is
denied need be so in one, and whatever its capitals.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from gateway import sdk
from gateway.profiles.schema import NameRules, ResourceRules, ServerRules

_DECODED: Final = 4  # times that percent-encoding is undone; what is encoded more often is nobody's honest URI
_UNREADABLE: Final = "\0"  # stands for a spelling that cannot be told


@dataclass(frozen=True)
class Sight:
    """``templates``: the server's own URI templates.  Names and URIs are as the server says them."""

    rules: ServerRules
    templates: tuple[str, ...] = ()

    def tool(self, name: str) -> bool:
        return named(self.rules.tools, name)

    def prompt(self, name: str) -> bool:
        return named(self.rules.prompts, name)

    def template(self, template: str) -> bool:
        """Whether the template is listed; URIs of one that is not may be allowed all the same."""
        rules = self.rules.resources
        return matches(template, rules.allow) and not matches(template.lower(), [glob.lower() for glob in rules.deny])

    def resource(self, uri: str) -> bool:
        """Whether ``uri`` may be read: by its own text, or because its template is allowed by its full text."""
        rules = self.rules.resources
        if rules == _ALL:
            return True
        if uri in self.templates:  # completion names the template itself
            return self.template(uri)
        of = [template for template in self.templates if sdk.template_matches(template, uri)]
        forms = spellings(uri)
        denied = [glob.lower() for glob in rules.deny]
        if any(matches(form.lower(), denied) for form in (*forms, *of)):
            return False
        if any(template in rules.allow for template in of):
            return True
        return _UNREADABLE not in forms and all(matches(form, rules.allow) for form in forms)


def named(rules: NameRules, name: str) -> bool:
    return matches(name, rules.allow) and not matches(name, rules.deny)


def matches(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)


def spellings(uri: str) -> tuple[str, ...]:
    """``uri``, and what a server may take it for: percent-encoding undone, ``..`` resolved within the path and across
    what stands in a host's place (RFC 3986 sections 5.2.4 and 6.2.2, and servers that join folders by hand)."""
    plain = _decoded(uri)
    if plain is None:
        return uri, _UNREADABLE
    scheme, colon, rest = plain.partition(":")
    if not colon:
        return tuple(dict.fromkeys((uri, plain, _resolved(plain))))
    slashes = "//" if rest.startswith("//") else ""
    rest = rest.removeprefix(slashes)
    host, slash, path = rest.partition("/") if slashes else ("", "", rest)
    start = f"{scheme}:{slashes}"
    proper = f"{start}{host}{_resolved(slash + path)}"
    joined = f"{start}{_resolved(rest)}"
    return tuple(dict.fromkeys((uri, plain, proper, joined)))


def _decoded(uri: str) -> str | None:
    for _ in range(_DECODED):
        plain = unquote(uri, errors="surrogateescape").replace("\\", "/")
        if plain == uri:
            return plain
        uri = plain
    return None


def _resolved(path: str) -> str:
    """Without ``.``, ``..`` and empty parts; a slash at either end stays."""
    parts: list[str] = []
    for part in re.split("/+", path):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    ends = "/" if parts and path.endswith("/") else ""
    return ("/" if path.startswith("/") else "") + "/".join(parts) + ends


_ALL: Final = ResourceRules()
