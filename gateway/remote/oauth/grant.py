"""A token and all that is needed to use and renew it, kept as one secret of its server, encrypted at rest."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.remote.oauth.metadata import scopes_in
from harbourmaster.core.redaction import IN_USE
from harbourmaster.core.secrets import SecretId, SecretStore
from harbourmaster.core.secrets.errors import SecretUnknown

GRANT: Final = "oauth-grant"
CLIENT_KEY: Final = "oauth-client-secret"  # of a client registered beforehand: hm secret set
VERSION: Final = 1
EARLY_S: Final = 30.0  # renewed this long before it ends: clocks differ, and requests take time


@dataclass(frozen=True)
class Client:
    """What we are to one authorization server; never shown to another (RFC 8414 section 3.3, SEP-2352)."""

    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    auth: str = "none"  # token_endpoint_auth_method
    redirect_uri: str = ""
    registered: bool = False  # by us, dynamically: may be registered anew


@dataclass(frozen=True)
class Grant:
    """``url``: the one server that ever sees the token.  ``expires``: seconds since the epoch, 0: not said."""

    url: str
    resource: str
    client: Client
    token_endpoint: str
    access_token: str = field(repr=False)
    refresh_token: str = field(default="", repr=False)
    expires: float = 0.0
    scopes: tuple[str, ...] = ()
    revocation_endpoint: str = ""

    def fresh(self, now: float) -> bool:
        return self.expires == 0 or now < self.expires - EARLY_S

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Grant:
        """Raises ``ValueError`` for what this version did not write."""
        body = json.loads(text)
        if not isinstance(body, dict) or body.pop("version", None) != VERSION:
            raise ValueError("not a grant of this version")
        try:
            client = Client(**body.pop("client"))
            return cls(client=client, **{**body, "scopes": tuple(body.pop("scopes"))})
        except (TypeError, KeyError) as e:
            raise ValueError(str(e)) from None


def grant_from(answer: dict[str, Any], before: Grant, now: float) -> Grant | None:
    """``before`` with what a token endpoint answered (RFC 6749 section 5.1); None when that is no bearer token."""
    token, kind = answer.get("access_token"), answer.get("token_type")
    if not isinstance(token, str) or not _sendable(token) or not isinstance(kind, str) or kind.lower() != "bearer":
        return None
    refresh, scope, lasts = answer.get("refresh_token"), answer.get("scope"), _seconds(answer.get("expires_in"))
    return dataclasses.replace(
        before,
        access_token=token,
        refresh_token=refresh if isinstance(refresh, str) and refresh else before.refresh_token,
        expires=now + lasts if lasts is not None else 0.0,
        scopes=scopes_in(scope) if isinstance(scope, str) and scope else before.scopes,
    )


def _seconds(said: Any) -> float | None:
    """``expires_in``, which some servers write as text."""
    if isinstance(said, str) and said.isdigit() and len(said) < 12:
        said = int(said)
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said < 10**10:
        return None
    return float(said)


def _sendable(token: str) -> bool:
    """A header can carry it (RFC 6750 section 2.1, read generously)."""
    return 0 < len(token) <= 16384 and all("!" <= c <= "~" for c in token)


class Vault:
    """The grant of one server in the secret store.  Blocking; for threads.  ``store`` is made when first needed."""

    def __init__(self, store: Callable[[], SecretStore], server: str) -> None:
        self._make = store
        self._store: SecretStore | None = None
        self._id = SecretId(server, GRANT)
        self._client_secret = SecretId(server, CLIENT_KEY)

    def load(self) -> Grant | None:
        """What this version cannot read counts as no grant: a new login replaces it."""
        store = self._opened()
        if not store.has(self._id):
            return None
        try:
            grant = Grant.from_json(store.get(self._id))
        except ValueError:
            return None
        IN_USE.add([t for t in (grant.access_token, grant.refresh_token, grant.client.client_secret) if t])
        return grant

    def save(self, grant: Grant) -> None:
        IN_USE.add([t for t in (grant.access_token, grant.refresh_token, grant.client.client_secret) if t])
        self._opened().put(self._id, grant.to_json())

    def drop(self) -> bool:
        """Whether there was one."""
        try:
            self._opened().remove(self._id)
        except SecretUnknown:
            return False
        return True

    def client_secret(self) -> str:
        store = self._opened()
        return store.get(self._client_secret) if store.has(self._client_secret) else ""

    def _opened(self) -> SecretStore:
        if self._store is None:
            self._store = self._make()
        return self._store
