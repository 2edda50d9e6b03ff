"""What a challenge and the metadata documents say, checked.  Pure.

RFC 9728 (protected resource), RFC 8414 and OpenID Connect Discovery 1.0 (authorization server), RFC 6750 (challenge), in the
order that the MCP authorization specification of 2025-11-25 and 2026-07-28 gives them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from gateway.remote.errors import RemoteInsecure, RemoteInvalid
from gateway.remote.oauth.errors import DiscoveryRefused
from gateway.remote.spec import checked_url, origin_of

PRM: Final = "/.well-known/oauth-protected-resource"
RFC8414: Final = "/.well-known/oauth-authorization-server"
OIDC: Final = "/.well-known/openid-configuration"

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3
# One auth-param: token = token, or token = quoted-string (RFC 9110 section 11.2)
_PARAM = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))")
_SCHEME = re.compile(r"(?:^|,)[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?=[ \t]+[^ \t=]|[ \t]*(?:,|$))")


@dataclass(frozen=True)
class Challenge:
    """A ``WWW-Authenticate: Bearer`` header, as far as it concerns us."""

    error: str = ""
    scope: tuple[str, ...] | None = None
    resource_metadata: str = ""

    @property
    def wants_scope(self) -> bool:
        return self.error == "insufficient_scope"


def challenge_of(header: str) -> Challenge:
    """From the header's text; other schemes are passed over."""
    said = _bearer_part(header[:8192])
    found = {m[1].lower(): re.sub(r"\\(.)", r"\1", m[2]) if m[2] is not None else m[3] for m in _PARAM.finditer(said)}
    scope = found.get("scope")
    return Challenge(
        found.get("error", ""), scopes_in(scope) if scope is not None else None, found.get("resource_metadata", "")
    )


def _bearer_part(header: str) -> str:
    outside = re.sub(r"\"(?:[^\"\\]|\\.)*\"", lambda m: '"' + "x" * (len(m[0]) - 2) + '"', header)
    schemes = list(_SCHEME.finditer(outside))
    for i, found in enumerate(schemes):
        if found[1].lower() == "bearer":
            end = schemes[i + 1].start() if i + 1 < len(schemes) else len(header)
            return header[found.end() : end]
    return ""


def scopes_in(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s for s in text.split() if _SCOPE.fullmatch(s)))


def union(*scopes: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s for each in scopes if each is not None for s in each))


# -- the protected resource


@dataclass(frozen=True)
class Resource:
    """``identifier``: what tokens are asked for (RFC 8707).  ``issuer``: of the authorization server to use."""

    identifier: str
    issuer: str
    scopes: tuple[str, ...] | None = None


def resource_urls(server_url: str, challenge: Challenge) -> list[str]:
    """Where its metadata may be: where the challenge says, then the well-known places."""
    if challenge.resource_metadata:
        return [challenge.resource_metadata]
    path = urlsplit(server_url).path.rstrip("/")
    return list(dict.fromkeys([_at(server_url, PRM + path), _at(server_url, PRM)]))


def canonical(server_url: str) -> str:
    """The server as a resource indicator: no fragment, no query, no final slash (MCP, "Canonical Server URI")."""
    parts = urlsplit(server_url)
    return urlunsplit((parts.scheme, parts.netloc.lower(), parts.path.rstrip("/"), "", ""))


def resource_of(body: Mapping[str, Any], server_url: str) -> Resource:
    """Raises ``DiscoveryRefused`` when it speaks of another server, or names no authorization server."""
    said = body.get("resource")
    if not isinstance(said, str) or not _covers(said, server_url):
        raise DiscoveryRefused(
            f"the resource metadata of {server_url} are about {str(said)[:200]!r}",
            remedy="a token for another server would be asked for: tell the server's author",
        )
    servers = body.get("authorization_servers")
    if not isinstance(servers, list) or not servers or not isinstance(servers[0], str):
        raise DiscoveryRefused(f"{server_url} names no authorization server", remedy="tell the server's author")
    return Resource(said, _secure(servers[0], "authorization server"), _scopes(body.get("scopes_supported")))


def _covers(resource: str, server_url: str) -> bool:
    """Same origin, and the server's path at or below the resource's (RFC 9728 section 3.3, as MCP servers use it)."""
    try:
        checked_url(resource)
    except (RemoteInvalid, RemoteInsecure):
        return False
    ours, its = urlsplit(server_url).path.rstrip("/"), urlsplit(resource).path.rstrip("/")
    return origin_of(resource) == origin_of(server_url) and (ours == its or ours.startswith(its + "/"))


# -- the authorization server


@dataclass(frozen=True)
class AuthServer:
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    registration_endpoint: str = ""
    scopes: tuple[str, ...] | None = None
    token_auth: tuple[str, ...] = ("client_secret_basic",)  # RFC 8414 section 2: the default
    takes_client_metadata: bool = False  # client_id_metadata_document_supported
    promises_iss: bool = False  # RFC 9207
    revocation_endpoint: str = ""  # RFC 7009


def server_urls(issuer: str) -> list[str]:
    """Where an issuer's metadata may be, in the order of the specification."""
    path = urlsplit(issuer).path.rstrip("/")
    if not path:
        return [_at(issuer, RFC8414), _at(issuer, OIDC)]
    return [_at(issuer, RFC8414 + path), _at(issuer, OIDC + path), _at(issuer, path + OIDC)]


def auth_server_of(body: Mapping[str, Any], issuer: str) -> AuthServer:
    """Raises ``DiscoveryRefused``: another issuer (mix-up), no S256, an endpoint that nothing may be sent to."""
    if body.get("issuer") != issuer:
        raise DiscoveryRefused(
            f"the metadata of {issuer} say that they are {str(body.get('issuer'))[:200]}'s",
            remedy="one of the two pretends to be the other: do not log in; tell the server's author",
        )
    if "S256" not in (body.get("code_challenge_methods_supported") or ()):
        raise DiscoveryRefused(
            f"{issuer} does not say that it supports PKCE with S256, without which a login can be stolen",
            remedy="ask its operator for code_challenge_methods_supported",
        )
    methods = body.get("token_endpoint_auth_methods_supported")
    registration, revocation = body.get("registration_endpoint"), body.get("revocation_endpoint")
    return AuthServer(
        issuer,
        _secure(body.get("authorization_endpoint"), "authorization endpoint"),
        _secure(body.get("token_endpoint"), "token endpoint"),
        _secure(registration, "registration endpoint") if registration else "",
        _scopes(body.get("scopes_supported")),
        tuple(m for m in methods if isinstance(m, str)) if isinstance(methods, list) else ("client_secret_basic",),
        body.get("client_id_metadata_document_supported") is True,
        body.get("authorization_response_iss_parameter_supported") is True,
        _secure(revocation, "revocation endpoint") if revocation else "",
    )


def by_convention(server_url: str) -> AuthServer:
    """A server of 2025-03-26 without metadata: the endpoints are at its own root ("Fallbacks for Servers without Metadata")."""
    at = [_at(server_url, path) for path in ("", "/authorize", "/token", "/register")]
    return AuthServer(at[0], at[1], at[2], at[3], token_auth=("none", "client_secret_post", "client_secret_basic"))


def origin_issuer(server_url: str) -> str:
    return _at(server_url, "")


def _secure(url: Any, what: str) -> str:
    try:
        checked_url(url if isinstance(url, str) else "")
    except (RemoteInvalid, RemoteInsecure) as e:
        raise DiscoveryRefused(f"the {what} cannot be used: {e.message}", remedy="tell its operator") from None
    return str(url)


def _scopes(said: Any) -> tuple[str, ...] | None:
    if not isinstance(said, list):
        return None
    return tuple(s for s in said if isinstance(s, str) and _SCOPE.fullmatch(s))[:200]


def _at(url: str, path: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))
