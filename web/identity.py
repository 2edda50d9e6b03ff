"""Who is at the console and what they may do: roles, signed sessions, one-time links, form tokens.  Pure.

A signed text is ``<payload>.<mac>``: base64url JSON and its HMAC-SHA256 under the console's key, over the purpose too, so
that a link is never a session.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any, Final

from web.errors import LoginRefused, RoleTooLow

ROLES: Final = ("viewer", "operator", "admin")  # each may do what those before it may
SESSION_S: Final = 12 * 3600  # a working day
LINK_S: Final = 15 * 60
MAX_SIGNED: Final = 2048  # characters; ours have under 300


@dataclass(frozen=True)
class Who:
    """``token``: the name of the token they came with; ``session``: this login, or empty for a bearer token."""

    token: str
    role: str
    session: str = ""

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)

    def require(self, role: str) -> None:
        if not self.may(role):
            raise RoleTooLow(
                f"this needs the role {role}; you are here as {self.role}",
                remedy=f"log in with a token of that role: hm console token --role {role}",
            )


def role_of(token_name: str) -> str:
    """``viewer.anna`` is a viewer; the default token, and a name without a role, is the owner's."""
    prefix = token_name.partition(".")[0]
    return prefix if prefix in ROLES else "admin"


def sign(key: bytes, purpose: str, payload: dict[str, Any]) -> str:
    body = base64.urlsafe_b64encode(json.dumps(payload, separators=(",", ":")).encode()).rstrip(b"=").decode()
    return f"{body}.{_mac(key, purpose, body)}"


def unsign(key: bytes, purpose: str, text: str, now: float) -> dict[str, Any]:
    """The payload.  Raises ``LoginRefused`` for one that is forged, over, or for something else."""
    body, _, mac = text[:MAX_SIGNED].partition(".")
    if not hmac.compare_digest(mac.encode(), _mac(key, purpose, body).encode()):
        raise LoginRefused("that was not signed here", remedy="log in again")
    try:
        payload = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, binascii.Error) as e:
        raise LoginRefused("that cannot be read", remedy="log in again") from e
    if not isinstance(payload, dict) or payload.get("until", 0) <= now:
        raise LoginRefused("that is over", remedy="log in again")
    return payload


def form_token(key: bytes, session: str) -> str:
    """What every form of this session carries: a page elsewhere cannot know it."""
    return _mac(key, "form", session)


def is_form_token(key: bytes, session: str, given: str) -> bool:
    return hmac.compare_digest(given.encode(), form_token(key, session).encode())


def _mac(key: bytes, purpose: str, body: str) -> str:
    digest = hmac.new(key, f"{purpose}\0{body}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
