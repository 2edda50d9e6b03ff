"""Who may speak to the HTTP edge at all: host, origin, token, and what they say they send and accept.

Verdicts on header values are remembered (values repeat; the tables are bounded), so a warm request pays for dictionary
look-ups.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from gateway.authorization.errors import IssuerUnreachable, TokenRefused
from gateway.messages import encode
from gateway.principals import Principal
from gateway.protocol import HEADER_MISMATCH, INVALID_REQUEST
from gateway.tokens import PREFIX, TokenStore

if TYPE_CHECKING:
    from gateway.authorization.oauth import OAuth

Headers = dict[bytes, bytes]

REALM: Final = b'Bearer realm="harbourmaster"'  # RFC 6750 section 3
AUTHENTICATE: Final = b"www-authenticate"
OURS: Final = PREFIX.encode()
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_REMEMBERED: Final = 256

# Headers that must not be repeated: readers who take the first copy and readers who take the last would disagree.
_SINGLE: Final = frozenset(
    {
        b"host",
        b"origin",
        b"authorization",
        b"content-type",
        b"content-length",
        b"mcp-session-id",
        b"mcp-protocol-version",
        b"mcp-method",
        b"mcp-name",
    }
)


class HttpRefusal(Exception):
    """An answer without a JSON-RPC request to blame: a status, and a JSON-RPC error with a null id.

    ``principal``: who it was, for the audit, where the token was good for that much.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        remedy: str = "",
        rpc: int = INVALID_REQUEST,
        headers: Iterable[tuple[bytes, bytes]] = (),
        principal: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.principal = principal
        self.code = code
        self.headers = list(headers)
        data: dict[str, Any] = {"code": code, **({"remedy": remedy} if remedy else {})}
        self.body = encode({"jsonrpc": "2.0", "id": None, "error": {"code": rpc, "message": message, "data": data}})


class Guard:
    def __init__(
        self,
        tokens: TokenStore,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        oauth: OAuth | None = None,
    ) -> None:
        """``hosts``: names beside loopback, without port.  ``origins``: beside loopback ones, as browsers send them.
        ``oauth``: the authorization server whose tokens are taken beside ours."""
        self.oauth = oauth
        self._tokens = tokens
        self._challenge = REALM
        if oauth is not None:
            self._challenge += b', resource_metadata="%s"' % oauth.config.metadata_url.encode()
        self._hosts = LOOPBACK | {h.lower() for h in hosts}
        self._origins = frozenset(o.lower().rstrip("/") for o in origins)
        self._good_hosts: set[bytes] = set()
        self._known: dict[bytes, Principal] = {}  # by the whole header; our own tokens alone, of one revision
        self._revision = tokens.revision
        self._accepts: dict[bytes | None, tuple[bool, bool]] = {}

    def headers(self, raw: list[tuple[bytes, bytes]]) -> Headers:
        """The headers as a mapping; raises ``HttpRefusal`` when one that decides something is repeated."""
        headers = dict(raw)
        if len(headers) != len(raw):
            seen: set[bytes] = set()
            for name, _ in raw:
                if name in seen and (name in _SINGLE or name.startswith(b"mcp-param-")):
                    raise HttpRefusal(
                        400,
                        "http.repeated_header",
                        f"{name.decode()} header appears more than once",
                        rpc=HEADER_MISMATCH,
                    )
                seen.add(name)
        return headers

    def principal(self, headers: Headers) -> Principal:
        """Whose token this is, the host and origin being ours.  Raises ``HttpRefusal``: 421, 403, 401."""
        host = headers.get(b"host", b"")
        if host not in self._good_hosts:
            self._check_host(host)
        origin = headers.get(b"origin")
        if origin is not None:
            self._check_origin(origin)
        return self._authenticate(headers.get(b"authorization"))

    async def prepare(self, headers: Headers) -> None:
        """Have the issuer's token in ``headers`` verified, so that ``principal`` knows it.  Raises ``HttpRefusal``."""
        oauth, token = self.oauth, _bearer(headers.get(b"authorization"))
        if oauth is None or token is None or token.startswith(OURS) or oauth.known(token) is not None:
            return
        self.check_host(headers)
        try:
            await oauth.verify(token)
        except TokenRefused as e:
            raise self._refused(e) from e
        except IssuerUnreachable as e:
            raise HttpRefusal(503, e.code, e.message, remedy=e.remedy, headers=[(b"retry-after", b"5")]) from e

    def _refused(self, error: TokenRefused) -> HttpRefusal:
        if error.error == "insufficient_scope":
            assert self.oauth is not None
            challenge = b', error="insufficient_scope", scope="%s"' % self.oauth.config.theirs().encode()
            challenge = self._challenge + challenge
            return HttpRefusal(
                403, "auth.scope", error.message, remedy=error.remedy, headers=[(AUTHENTICATE, challenge)]
            )
        return self._unauthorized(error.code, error.message, error=True)

    def more_scopes(self, principal: Principal, needed: Iterable[str]) -> bytes:
        """The challenge that has a client ask its issuer for more; empty where more scopes would not help."""
        if self.oauth is None or not principal.issuer:
            return b""
        scopes = self.oauth.config.granting([each for each in needed if each not in principal.scopes])
        return self._challenge + b', error="insufficient_scope", scope="%s"' % scopes.encode() if scopes else b""

    def check_host(self, headers: Headers) -> None:
        """DNS rebinding stops here; also for what needs no token."""
        host = headers.get(b"host", b"")
        if host not in self._good_hosts:
            self._check_host(host)

    def accepts(self, headers: Headers) -> tuple[bool, bool]:
        """(JSON, SSE): what the client takes; no Accept header means anything (RFC 9110 section 12.5.1)."""
        value = headers.get(b"accept")
        known = self._accepts.get(value)
        if known is None:
            if len(self._accepts) >= _REMEMBERED:
                self._accepts.clear()
            known = self._accepts[value] = _accepted(value)
        return known

    def _check_host(self, host: bytes) -> None:
        if _without_port(host.decode("latin-1")).lower() not in self._hosts:
            raise HttpRefusal(
                421,
                "http.wrong_host",
                "this gateway does not answer to that host name",
                remedy="use 127.0.0.1 or localhost, or add the name to gateway_allowed_hosts",
            )
        if len(self._good_hosts) >= _REMEMBERED:
            self._good_hosts.clear()
        self._good_hosts.add(host)

    def _check_origin(self, origin: bytes) -> None:
        text = origin.decode("latin-1").lower().rstrip("/")
        scheme, _, rest = text.partition("://")
        if text in self._origins or (scheme in ("http", "https") and _without_port(rest) in LOOPBACK):
            return
        raise HttpRefusal(
            403,
            "http.wrong_origin",
            "web pages of that origin may not use this gateway",
            remedy="add the origin to gateway_allowed_origins",
        )

    def _authenticate(self, authorization: bytes | None) -> Principal:
        if authorization is None:
            raise self._unauthorized("auth.missing", "a bearer token is required")
        if self._revision != self._tokens.revision:
            self._revision = self._tokens.revision
            self._known.clear()
        principal = self._known.get(authorization) or self._holder(authorization)
        if principal.expires is not None and principal.expires <= time.time():
            raise self._unauthorized("auth.expired", "that token has ended", error=True)
        return principal

    def _holder(self, authorization: bytes) -> Principal:
        token = _bearer(authorization)
        principal = self._tokens.principal(token) if token is not None else None
        if principal is not None and self._revision == self._tokens.revision:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[authorization] = principal
        if principal is None and self.oauth is not None and token is not None:
            principal = self.oauth.known(token)
        if principal is None:
            raise self._unauthorized("auth.invalid", "that token is not known here", error=True)
        return principal

    def _unauthorized(self, code: str, message: str, *, error: bool = False) -> HttpRefusal:
        challenge = self._challenge + (b', error="invalid_token"' if error else b"")
        if self.oauth is not None and (scope := self.oauth.config.theirs()):
            challenge += b', scope="%s"' % scope.encode()
        remedy = "send the header 'Authorization: Bearer ...' with what `hm token show` prints"
        return HttpRefusal(401, code, message, remedy=remedy, headers=[(AUTHENTICATE, challenge)])


def _bearer(authorization: bytes | None) -> bytes | None:
    scheme, _, token = (authorization or b"").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else None


def is_json(headers: Headers) -> bool:
    kind = headers.get(b"content-type", b"")
    return kind == b"application/json" or kind.partition(b";")[0].strip().lower() == b"application/json"


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0]


def _accepted(value: bytes | None) -> tuple[bool, bool]:
    if value is None:
        return True, True
    kinds = {part.partition(b";")[0].strip().lower() for part in value.split(b",")}
    anything = b"*/*" in kinds
    json = anything or b"application/json" in kinds or b"application/*" in kinds
    return json, anything or b"text/event-stream" in kinds or b"text/*" in kinds
