"""Resource-server mode: access tokens of a team's own authorization server, beside ours.

What is believed: a JWT (RFC 9068) signed with a key that the configured issuer publishes, for our audience alone
(RFC 8707), not expired.  Everything else is refused; a token for somebody else is no token here.  A verified token is
remembered until it ends or the issuer's keys change, so a warm request pays for one sha256.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gateway.authorization.errors import OAuthInvalid, TokenRefused
from gateway.authorization.keys import Keys
from gateway.principals import CLIENT_SCOPES, SCOPES, Principal

log = logging.getLogger("gateway.oauth")

METADATA_PATH: Final = "/.well-known/oauth-protected-resource"  # RFC 9728 section 3.1
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_S: Final = 30  # between two clocks
MAX_TOKEN: Final = 16 << 10  # bytes
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})  # RFC 9068 section 4; older issuers say JWT
_REMEMBERED: Final = 2048


class OAuthConfig(BaseModel):
    """``[oauth]`` of config.toml.  ``scopes``: what each scope of the issuer's means here; without it, ours by their own
    names, ``admin`` excepted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str
    audience: str = Field(description="our address as clients know it, such as https://mcp.example.org/mcp")
    jwks_uri: str = ""  # where the issuer's metadata does not say
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
    scopes: dict[str, tuple[str, ...]] = Field(default={})
    required_scopes: tuple[str, ...] = ()
    name_claim: str = "sub"
    groups_claim: str = "groups"

    @field_validator("issuer", "audience", "jwks_uri")
    @classmethod
    def _is_secure(cls, url: str) -> str:
        where = urlsplit(url)
        loopback = where.scheme == "http" and where.hostname in ("127.0.0.1", "::1", "localhost")
        if url and not ((where.scheme == "https" and where.hostname) or loopback):
            raise ValueError("it must be an https URL (http is for this machine alone)")
        if where.fragment or where.query or where.username:
            raise ValueError("it must have no query, fragment or user")
        return url

    @model_validator(mode="after")
    def _means_something(self) -> OAuthConfig:
        if not self.algorithms or (odd := set(self.algorithms) - set(ALGORITHMS)):
            raise ValueError(f"algorithms are some of {', '.join(ALGORITHMS)}")
        if odd := {ours for each in self.scopes.values() for ours in each} - SCOPES.keys():
            raise ValueError(f"{sorted(odd)[0]!r} is no scope of ours: {', '.join(SCOPES)}")
        return self

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> OAuthConfig | None:
        if not table:
            return None
        try:
            return cls.model_validate(dict(table))
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise OAuthInvalid(
                f"oauth{'.' if where else ''}{where}: {first['msg']}", remedy="correct [oauth] in config.toml"
            ) from e

    @property
    def metadata_url(self) -> str:
        """Where clients find who issues tokens for us (RFC 9728 section 3.1: the path goes behind the well-known part)."""
        where = urlsplit(self.audience)
        return f"{where.scheme}://{where.netloc}{METADATA_PATH}{where.path.rstrip('/')}"

    @property
    def metadata_paths(self) -> frozenset[str]:
        """With and without the path, for clients that do not know where it goes."""
        return frozenset({METADATA_PATH, urlsplit(self.metadata_url).path})

    def metadata(self) -> dict[str, Any]:
        theirs = sorted(self.scopes) or sorted(SCOPES.keys() - {"admin"})
        return {
            "resource": self.audience,
            "authorization_servers": [self.issuer],
            "scopes_supported": theirs,
            "bearer_methods_supported": ["header"],
            "resource_name": "Harbourmaster",
        }

    def ours(self, theirs: frozenset[str]) -> frozenset[str]:
        if not self.scopes:
            return theirs & (SCOPES.keys() - {"admin"})
        return frozenset(ours for each in theirs for ours in self.scopes.get(each, ()))

    def granting(self, needed: Collection[str]) -> str:
        """Scopes of the issuer's, any of which gives one of ours in ``needed``."""
        if not self.scopes:
            return " ".join(sorted(needed))
        return " ".join(name for name, ours in self.scopes.items() if set(ours) & set(needed))

    def theirs(self) -> str:
        """What a client should ask the issuer for."""
        granting = [name for name, ours in self.scopes.items() if CLIENT_SCOPES & set(ours)]
        return " ".join(self.required_scopes or granting)


class OAuth:
    """``known`` is the hot path; ``verify`` may ask the issuer for its keys."""

    def __init__(self, config: OAuthConfig, keys: Keys | None = None) -> None:
        self.config = config
        self._keys = keys or Keys(config.issuer, config.jwks_uri)
        self._verified: dict[bytes, Principal] = {}
        self._of_keys = 0  # the generation of keys that those were verified with

    def known(self, token: bytes) -> Principal | None:
        if self._keys.generation != self._of_keys or self._keys.stale(time.monotonic()):
            return None
        return self._verified.get(hashlib.sha256(token).digest())

    async def verify(self, token: bytes) -> Principal:
        """Raises ``TokenRefused``, ``IssuerUnreachable``."""
        header = _header(token, self.config.algorithms)
        key = await self._keys.find(header.get("kid"), header["alg"])
        if self._keys.generation != self._of_keys:
            self._verified.clear()
            self._of_keys = self._keys.generation
        claims = self._claims(token, key, header["alg"])
        principal = self._principal(claims)
        if len(self._verified) >= _REMEMBERED:
            self._forget()
        self._verified[hashlib.sha256(token).digest()] = principal
        return principal

    async def close(self) -> None:
        await self._keys.close()

    def _claims(self, token: bytes, key: jwt.PyJWK, algorithm: str) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self.config.audience,
                issuer=self.config.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", self.config.name_claim]},
            )
        except jwt.ExpiredSignatureError as e:
            raise TokenRefused("that token has ended", remedy="get a new one from the issuer") from e
        except (jwt.PyJWTError, ValueError) as e:
            raise TokenRefused(f"that token does not hold: {e}", remedy=f"get one for {self.config.audience}") from e

    def _principal(self, claims: dict[str, Any]) -> Principal:
        config = self.config
        theirs = _scopes(claims)
        if missing := set(config.required_scopes) - theirs:
            raise TokenRefused(
                f"that token lacks the scope {sorted(missing)[0]}",
                error="insufficient_scope",
                remedy="get one with that scope from the issuer",
            )
        name, groups = claims[config.name_claim], claims.get(config.groups_claim)
        if not isinstance(name, str) or not name:
            raise TokenRefused(f"its {config.name_claim} is no text", remedy="set name_claim in [oauth]")
        who = (config.issuer, str(claims.get("sub", name)), str(claims.get("client_id", claims.get("azp", ""))))
        return Principal(
            f"{name[:200]}@{urlsplit(config.issuer).netloc}",  # no name of a token of ours has an @
            hashlib.sha256("\0".join(who).encode("utf-8", "surrogatepass")).hexdigest(),
            config.ours(theirs),
            groups=frozenset(g for g in groups if isinstance(g, str)) if isinstance(groups, list) else frozenset(),
            issuer=config.issuer,
            expires=float(claims["exp"]) + LEEWAY_S,
        )

    def _forget(self) -> None:
        """What has ended, else the oldest half."""
        now = time.time()
        left = {digest: who for digest, who in self._verified.items() if who.expires is None or who.expires > now}
        if len(left) >= _REMEMBERED:
            left = dict(list(left.items())[_REMEMBERED // 2 :])
        self._verified = left


def _header(token: bytes, algorithms: tuple[str, ...]) -> dict[str, Any]:
    if len(token) > MAX_TOKEN:
        raise TokenRefused("that token is too long", remedy="get another from the issuer")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError) as e:
        raise TokenRefused("that token is not known here", remedy="send a token of ours or of the issuer's") from e
    kind = header.get("typ", "")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenRefused("that is no access token", remedy="send the access token, not another one")
    if header.get("alg") not in algorithms:
        raise TokenRefused("that token is signed in a way that is not taken here", remedy="see algorithms in [oauth]")
    if "crit" in header:
        raise TokenRefused("that token wants something that is not understood here", remedy="get another")
    return dict(header)


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """``scope`` as text (RFC 8693 section 4.2), or ``scp`` as a list, as some issuers write it."""
    said = claims.get("scope", claims.get("scp", ""))
    words = said.split(" ") if isinstance(said, str) else said if isinstance(said, list) else []
    return frozenset(word for word in words if isinstance(word, str) and word)
