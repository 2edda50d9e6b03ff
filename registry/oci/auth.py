"""Registry authentication: the token flow (distribution's auth/token spec, RFC 6750) and plain Basic (RFC 7617).

Built on ``oras``' token backend, which finds credentials as ``docker`` does.  What it lacks is here: a token per scope,
Basic challenges, and a look at where a challenge would have the password sent before it is sent.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import requests
from oras.auth.token import TokenAuth

from registry.errors import RemoteInsecure, RemoteLied, RemoteUnauthorized
from registry.oci.reference import is_loopback

MAX_TOKEN_BYTES = 64 << 10
TOKEN_TIMEOUT_S = (10, 30)  # connect, read
_PARAMETER = re.compile(r'([a-zA-Z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')  # RFC 9110, section 11.2
# Registries whose token service is on a host of another name.  Docker Hub: its own documented addresses.
_TOKEN_HOSTS = {"registry-1.docker.io": "auth.docker.io", "index.docker.io": "auth.docker.io"}


class RegistryAuth(TokenAuth):  # type: ignore[misc]
    """Answers the challenges of one registry host."""

    def __init__(self, host: str, session: requests.Session, tls_verify: bool | str) -> None:
        super().__init__()
        self.hostname = self._host = host
        self.session, self._tls_verify = session, tls_verify
        self._header = ""

    @property
    def header(self) -> str:
        """The ``Authorization`` that the last challenge led to; empty before one."""
        return self._header

    def answer(self, challenge: str) -> None:
        """Get what the ``WWW-Authenticate`` line asks for.  Raises ``RemoteUnauthorized``, ``RemoteInsecure``."""
        scheme, _, rest = challenge.partition(" ")
        basic = getattr(self, "_basic_auth", None)
        if scheme.lower() == "basic":
            if not basic:
                raise self._refused("it wants a user name and a password, and none are configured for it")
            self._header = f"Basic {basic}"
        elif scheme.lower() == "bearer":
            parameters = {k.lower(): quoted or plain for k, quoted, plain in _PARAMETER.findall(rest)}
            self._header = f"Bearer {self._token(parameters, basic)}"
        else:
            raise self._refused(f"it wants an authentication that is not supported ({scheme[:50]!r})")

    def _token(self, parameters: dict[str, str], basic: str | None) -> str:
        realm = parameters.get("realm", "")
        self._check_realm(realm, bool(basic))
        query = {k: parameters[k] for k in ("service", "scope") if parameters.get(k)}
        headers = {"Authorization": f"Basic {basic}"} if basic else {}
        try:
            response = self.session.get(
                realm,
                params=query,
                headers=headers,
                auth=keep_headers,
                verify=self._tls_verify,
                timeout=TOKEN_TIMEOUT_S,
                allow_redirects=False,
                stream=True,
            )
            with response:
                body = response.raw.read(MAX_TOKEN_BYTES, decode_content=True)
            if response.status_code != 200:
                raise self._refused(f"its token service answers {response.status_code}")
            return _token_in(body)
        except (requests.RequestException, OSError) as e:
            raise self._refused(f"its token service does not answer: {e}") from e

    def _check_realm(self, realm: str, has_password: bool) -> None:
        url = urlsplit(realm)
        host = url.netloc.rpartition("@")[2]
        if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
            raise RemoteInsecure(
                f"{self._host} sends us for a token to {realm[:200]!r}, which is not HTTPS",
                remedy="do not use this registry, or ask its operator",
            )
        if has_password and not _belongs(url.hostname or "", self._host):
            raise RemoteInsecure(
                f"{self._host} wants its password sent to another host, {url.hostname}",
                remedy="log out of this registry (docker logout) to use it without a password",
            )

    def _refused(self, why: str) -> RemoteUnauthorized:
        return RemoteUnauthorized(
            f"{self._host} does not let us in: {why}", remedy=f"log in: docker login {self._host}", host=self._host
        )


def keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Given as ``auth``, stops ``requests`` from putting a .netrc password in the place of our header."""
    return request


def _belongs(token_host: str, registry: str) -> bool:
    """Whether a registry's password may go to ``token_host``: itself, a host below or beside its own domain's name."""
    host = urlsplit(f"//{registry}").hostname or ""
    if _TOKEN_HOSTS.get(host) == token_host or token_host == host:
        return True
    return token_host.endswith(f".{host}") or ("." in token_host and host.endswith(f".{token_host}"))


def _token_in(body: bytes) -> str:
    import json

    try:
        answer: Any = json.loads(body)
        token = answer.get("token") or answer.get("access_token")
    except (ValueError, AttributeError) as e:
        raise RemoteLied("the token service's answer is not a token", remedy="try again, or ask its operator") from e
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RemoteLied("the token service's answer holds no token", remedy="try again, or ask its operator")
    return token
