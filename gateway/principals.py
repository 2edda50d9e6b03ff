"""Who is calling, and what their token says they may do.  Pure.

Scopes are words of our own (an OAuth issuer's are translated in ``gateway/authorization/oauth.py``); the shipped Cedar
policies (``policies/authorization``) say what each allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# scope -> what a person reads about it; the order is that of `hm token create --help`.
SCOPES: Final[dict[str, str]] = {
    "list": "see what is offered",
    "call": "call every tool",
    "call:read-only": "call tools that are annotated read-only",
    "get": "get prompts, and completions of their arguments",
    "read": "read and subscribe to resources",
    "exec": "find, add and execute tools by the dynamic tools and in code mode",
    "metrics": "read /metrics",
    "admin": "everything, and the operator's own endpoints",
}
CLIENT_SCOPES: Final = frozenset({"list", "call", "get", "read", "exec"})  # of a token made without --scope
ALL_SCOPES: Final = frozenset(SCOPES)


@dataclass(frozen=True, slots=True)
class Principal:
    """``name``: for people and the audit.  ``key``: what sessions and state are bound to; a name that is given away again
    has another key.  ``profiles`` and ``servers``: the only ones this caller may use; None: any.  ``expires``: Unix time.
    """

    name: str
    key: str
    scopes: frozenset[str] = CLIENT_SCOPES
    profiles: frozenset[str] | None = None
    servers: frozenset[str] | None = None
    groups: frozenset[str] = frozenset()
    issuer: str = ""  # of an OAuth token; empty: our own
    expires: float | None = None

    @property
    def admin(self) -> bool:
        return "admin" in self.scopes

    def may_use(self, profile: str) -> bool:
        return self.profiles is None or profile in self.profiles


LOCAL: Final = Principal("stdio", "stdio", ALL_SCOPES)  # whoever started us on stdio: they own our process
