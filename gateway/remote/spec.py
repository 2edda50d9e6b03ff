"""Where a remote server is and what is sent there: ``run["remote"]`` in the lock.  Pure.

``{"url", "transport": "streamable-http"|"sse", "headers": {name: template}, "private": [host:port], "oauth": {...}|null}``.
A template may hold ``${VARIABLE}``, the ``env`` of a secret that the server declares, as Docker's catalog writes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final, Literal, get_args
from urllib.parse import SplitResult, urlsplit

from gateway.remote.errors import RemoteInsecure, RemoteInvalid

Transport = Literal["streamable-http", "sse"]

MAX_URL: Final = 2048  # what browsers and proxies take without complaint
MAX_HEADERS: Final = 32
MAX_HEADER_VALUE: Final = 8192  # the usual limit of web servers for one header line

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_VALUE = re.compile(r"[\x20-\x7e\t]*")
_PORTS = {"https": 443, "http": 80}
# Ours to set: framing, and what the protocol or its authorization puts there
_RESERVED = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "content-type", "accept", "accept-encoding"}
    | {"mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name", "last-event-id", "te", "upgrade"}
)


@dataclass(frozen=True)
class OAuthSpec:
    """``client_id``: registered beforehand; its secret, if it has one, is the secret ``oauth-client-secret``."""

    client_id: str = ""
    client_metadata_url: str = ""
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RemoteSpec:
    url: str
    transport: Transport = "streamable-http"
    headers: Mapping[str, str] = field(default_factory=dict)
    private: frozenset[str] = frozenset()  # host:port that may have a private or loopback address
    oauth: OAuthSpec | None = None

    @property
    def host(self) -> str:
        """``host:port``: what it may touch."""
        return endpoint_of(self.url)

    def as_dict(self) -> dict[str, Any]:
        body: dict[str, Any] = {"url": self.url, "transport": self.transport, "headers": dict(self.headers)}
        if self.private:
            body["private"] = sorted(self.private)
        if self.oauth is not None:
            body["oauth"] = {
                "client_id": self.oauth.client_id,
                "client_metadata_url": self.oauth.client_metadata_url,
                "scopes": list(self.oauth.scopes),
            }
        return body


def parse(body: Any) -> RemoteSpec:
    """Raises ``RemoteInvalid`` or ``RemoteInsecure``."""
    if not isinstance(body, dict) or not isinstance(body.get("url"), str):
        raise RemoteInvalid("a remote server is an object with a url", remedy="add it anew: hm server add")
    transport = body.get("transport", "streamable-http")
    if transport not in get_args(Transport):
        raise RemoteInvalid(f"{transport!r} is no transport", remedy="write streamable-http or sse")
    checked_url(body["url"])
    private = body.get("private") or []
    if not isinstance(private, list) or not all(isinstance(p, str) for p in private):
        raise RemoteInvalid("private is not a list of host:port", remedy="write it as host:port")
    return RemoteSpec(body["url"], transport, _headers(body.get("headers") or {}), frozenset(private), _oauth(body))


def checked_url(url: str) -> SplitResult:
    """``url`` in its parts, if a server may be there.  Raises ``RemoteInvalid`` or ``RemoteInsecure``."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as e:
        raise _bad_url(url, str(e)) from None
    if len(url) > MAX_URL or not url.isascii() or any(c <= " " or c in '"<>\\^`{|}\x7f' for c in url):
        raise _bad_url(url, "it holds characters that no address has, or is too long")
    if not host or parts.scheme not in _PORTS:
        raise _bad_url(url, "it is neither https:// nor http:// with a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise _bad_url(url, "it carries a user name, a password or a fragment")
    if parts.scheme == "http" and not is_loopback(host):
        raise RemoteInsecure(
            f"{url[:200]} is plain HTTP: anyone on the way could read and change it",
            remedy="use https; plain HTTP is for this machine alone",
        )
    return parts


def _bad_url(url: str, why: str) -> RemoteInvalid:
    return RemoteInvalid(f"{url[:200]!r} is no address of a server: {why}", remedy="write https://host/path")


def is_loopback(host: str) -> bool:
    """Whether ``host`` names this machine: ``localhost`` (RFC 6761 section 6.3) or a loopback address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def endpoint_of(url: str) -> str:
    """``host:port`` of a checked URL."""
    parts = urlsplit(url)
    return f"{(parts.hostname or '').rstrip('.')}:{parts.port or _PORTS[parts.scheme]}"


def origin_of(url: str) -> tuple[str, str]:
    """What two URLs share when they are of one origin (RFC 6454 section 4)."""
    return urlsplit(url).scheme, endpoint_of(url)


def variables(headers: Mapping[str, str]) -> frozenset[str]:
    """What the templates ask for."""
    return frozenset(name for text in headers.values() for name in _VARIABLE.findall(text))


def fill(headers: Mapping[str, str], values: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers with ``values`` in place of the variables.  Raises ``RemoteInvalid``, never with a value in it."""
    filled = []
    for name, template in headers.items():
        missing = [v for v in _VARIABLE.findall(template) if v not in values]
        if missing:
            raise RemoteInvalid(
                f"the header {name} needs ${{{missing[0]}}}, which no secret of this server is called",
                remedy="declare the secret, and set it: hm secret set",
            )
        text = _VARIABLE.sub(lambda found: values[found[1]], template).strip(" \t")
        if not _VALUE.fullmatch(text) or len(text) > MAX_HEADER_VALUE:
            raise RemoteInvalid(
                f"the value for the header {name} has characters no header may have, or is too long",
                remedy="set the secret again, without line breaks",
            )
        filled.append((name.lower().encode(), text.encode()))
    return filled


def _headers(headers: Any) -> dict[str, str]:
    if not isinstance(headers, dict) or len(headers) > MAX_HEADERS:
        raise RemoteInvalid(f"headers is no object of at most {MAX_HEADERS}", remedy="mend the entry")
    for name, text in headers.items():
        if not isinstance(text, str) or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(text):
            raise RemoteInvalid(f"{name!r} cannot be sent as a header", remedy="mend the entry")
        if name.lower() in _RESERVED or name.lower().startswith("mcp-param-"):
            raise RemoteInvalid(f"the header {name} is the protocol's own", remedy="remove it from the entry")
    return dict(headers)


def _oauth(body: Mapping[str, Any]) -> OAuthSpec | None:
    said = body.get("oauth")
    if said is None:
        return None
    if not isinstance(said, dict) or any(k.lower() == "authorization" for k in body.get("headers") or {}):
        raise RemoteInvalid("oauth is no object, or stands beside an Authorization header", remedy="keep one of them")
    scopes = said.get("scopes") or []
    texts = [said.get("client_id") or "", said.get("client_metadata_url") or ""]
    if not isinstance(scopes, list) or not all(isinstance(t, str) for t in [*texts, *scopes]):
        raise RemoteInvalid("oauth has client_id, client_metadata_url and a list of scopes", remedy="mend the entry")
    if texts[1] and (urlsplit(texts[1]).scheme != "https" or urlsplit(texts[1]).path in ("", "/")):
        raise RemoteInvalid("client_metadata_url is an https address with a path", remedy="mend the entry")
    return OAuthSpec(texts[0], texts[1], tuple(scopes))
