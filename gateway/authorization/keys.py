"""The issuer's keys (RFC 7517): found by its metadata, kept, asked for again when they are old or one is missing.

An issuer rotates by publishing a new key before it signs with it.  A token with a key that is not known makes us look
again, though not more often than every ``LOOK_AGAIN_S``, so that nobody can have us knock at the issuer's door for them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import jwt

from gateway.authorization.errors import IssuerUnreachable, TokenRefused
from gateway.messages import decode
from harbourmaster.core.errors import HarbourError

log = logging.getLogger("gateway.oauth")

FRESH_S: Final = 600.0  # then they are asked for again
LAST_S: Final = 3600.0  # an issuer that does not answer is believed this long on its old keys
LOOK_AGAIN_S: Final = 10.0
TIMEOUT_S: Final = 5.0
MAX_BYTES: Final = 1 << 20


class Keys:
    """``generation`` grows when the set of keys changes."""

    def __init__(self, issuer: str, jwks_uri: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.generation = 0
        self._issuer = issuer
        self._jwks_uri = jwks_uri
        self._clock = clock
        self._keys: list[jwt.PyJWK] = []
        self._print: object = None
        self._fetched = self._tried = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._client: httpx2.AsyncClient | None = None

    def stale(self, now: float) -> bool:
        return now - self._fetched > FRESH_S

    async def find(self, kid: Any, algorithm: str) -> jwt.PyJWK:
        """The key that a token names, or the one there is for ``algorithm``.  ``TokenRefused``, ``IssuerUnreachable``."""
        if self.stale(self._clock()):
            await self._refresh()
        key = self._pick(kid, algorithm)
        if key is None and self._clock() - self._tried >= LOOK_AGAIN_S:
            await self._refresh()
            key = self._pick(kid, algorithm)
        if key is None:
            raise TokenRefused("that token is signed with a key that its issuer does not publish", remedy="get another")
        return key

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    def _pick(self, kid: Any, algorithm: str) -> jwt.PyJWK | None:
        fit = [key for key in self._keys if _fits(key, algorithm)]
        if kid is not None:
            fit = [key for key in fit if key.key_id == kid]
        return jwt.PyJWK(fit[0]._jwk_data, algorithm) if len(fit) == 1 else None

    async def _refresh(self) -> None:
        """One request at a time, whoever waits.  An issuer that is silent is believed on its last word for a while."""
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        fetching = self._fetching
        try:
            await asyncio.shield(fetching)
        except (HarbourError, httpx2.HTTPError, ValueError, TimeoutError) as e:
            if self._clock() - self._fetched > LAST_S:
                raise IssuerUnreachable(
                    f"the keys of {self._issuer} cannot be had: {e}",
                    remedy="see that the issuer answers; then call again",
                ) from e
            log.warning("the keys of %s cannot be had (%s); those from before count", self._issuer, e)
        finally:
            if self._fetching is fetching:
                self._fetching = None

    async def _fetch(self) -> None:
        self._tried = self._clock()
        async with asyncio.timeout(2 * TIMEOUT_S):
            body = await self._get(self._jwks_uri or await self._discovered())
        rows = body.get("keys")
        if not isinstance(rows, list):
            raise ValueError("there is no list of keys")
        keys = [key for row in rows if (key := _key(row)) is not None]
        found = sorted((str(row.get("kid")), str(row)) for row in rows if isinstance(row, dict))
        if found != self._print:
            self._keys, self._print = keys, found
            self.generation += 1
        self._fetched = self._clock()

    async def _discovered(self) -> str:
        """RFC 8414 section 3, then OpenID Connect Discovery section 4; both must name the issuer itself."""
        where = urlsplit(self._issuer)
        base, path = f"{where.scheme}://{where.netloc}", where.path.rstrip("/")
        for url in (
            f"{base}/.well-known/oauth-authorization-server{path}",
            f"{base}{path}/.well-known/openid-configuration",
        ):
            try:
                body = await self._get(url)
            except (httpx2.HTTPError, ValueError):
                continue
            jwks = body.get("jwks_uri")
            if body.get("issuer") != self._issuer or not isinstance(jwks, str):
                raise ValueError("its metadata is not its own")
            if urlsplit(jwks).scheme != "https" and urlsplit(jwks).netloc != where.netloc:
                raise ValueError("its metadata leads to an address that is not secure")
            return jwks
        raise ValueError("it publishes no metadata")

    async def _get(self, url: str) -> dict[str, Any]:
        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)
        async with self._client.stream("GET", url, headers={"accept": "application/json"}) as response:
            if response.status_code != 200:
                raise ValueError(f"{url} answers with status {response.status_code}")
            raw = bytearray()
            async for part in response.aiter_bytes():
                raw += part
                if len(raw) > MAX_BYTES:
                    raise ValueError(f"{url} says too much")
        try:
            body = decode(raw)
        except HarbourError as e:
            raise ValueError(f"{url} does not answer with JSON") from e
        if not isinstance(body, dict):
            raise ValueError(f"{url} does not answer with an object")
        return body


def _key(row: Any) -> jwt.PyJWK | None:
    """One public signing key; what we cannot use is left out."""
    if not isinstance(row, dict) or row.get("use", "sig") != "sig" or row.get("kty") == "oct":
        return None
    try:
        return jwt.PyJWK.from_dict({name: row[name] for name in row if name not in _PRIVATE})
    except (jwt.PyJWTError, ValueError, KeyError, TypeError):
        return None


_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})


def _fits(key: jwt.PyJWK, algorithm: str) -> bool:
    """An RSA key that names no algorithm is good for every padding; other kinds have one algorithm each."""
    if key.key_type == "RSA" and "alg" not in key._jwk_data:
        return algorithm[:2] in ("RS", "PS")
    return key.algorithm_name == algorithm
