"""A server that runs elsewhere: ``remote`` in a ``server.yaml``."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from registry import addresses
from registry.fields import Host, Line, Strict, WebAddress

# RFC 9110, section 5.6.2 (token); values are printable ASCII without line ends (5.5)
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length=100)]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$", max_length=2000)]
Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$", max_length=200)]  # RFC 6749, 3.3
Address = Annotated[str, StringConstraints(pattern=r"^https?://[^\s<>\"']+$", max_length=500)]

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# What the transport sets itself; an entry that could set them could forge a session or another host
_RESERVED = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "content-type", "accept", "accept-encoding"}
    | {"origin", "cookie", "last-event-id", "te", "upgrade"}
)


class RemoteOAuth(Strict):
    """How a person signs in (MCP authorization, 2025-11-25).  All of it may be left out: then it is discovered.

    ``client_id``: registered beforehand; its secret, if it has one, is kept as ``oauth-client-secret``.
    """

    scopes: list[Scope] = Field(default=[], max_length=50)
    client_id: Line | None = None
    client_metadata_url: WebAddress | None = None


class Remote(Strict):
    """``headers``: ``${ENV}`` stands for the secret or setting whose ``env`` or ``name`` that is.

    ``private``: the ``host:port`` of ``url`` where it may be on a private network or, with http, on this machine; and of its
    authorization server, where that is.
    """

    url: Address
    transport: Literal["streamable-http", "sse"] = "streamable-http"
    headers: dict[HeaderName, HeaderValue] = Field(default={}, max_length=32)
    private: list[Host] = Field(default=[], max_length=8)
    oauth: RemoteOAuth | None = None

    @field_validator("headers")
    @classmethod
    def leaves_the_transport_alone(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            if name.lower() in _RESERVED or name.lower().startswith("mcp-"):
                raise ValueError(f"{name} is set by the transport and by nobody else")
        if len({name.lower() for name in headers}) != len(headers):
            raise ValueError("a header is there twice")
        return headers

    @model_validator(mode="after")
    def is_where_it_says(self) -> Remote:
        reason = addresses.refusal(self.url)
        if reason and not self._is_private():
            raise ValueError(f"{self.url[:200]} {reason}")
        if self.oauth and any(name.lower() == "authorization" for name in self.headers):
            raise ValueError("oauth and an Authorization header: keep one of them")
        return self

    @property
    def host(self) -> str:
        """``host:port``: what it may touch."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or {'https': 443, 'http': 80}[parts.scheme]}"

    @property
    def variables(self) -> tuple[str, ...]:
        """The names in ``${...}`` of the headers, each once."""
        return tuple(dict.fromkeys(v for value in self.headers.values() for v in VARIABLE.findall(value)))

    def as_run(self) -> dict[str, Any]:
        """The lock's ``run["remote"]``: ``{url, transport, headers, private?, oauth?}``."""
        body: dict[str, Any] = {"url": self.url, "transport": self.transport, "headers": dict(self.headers)}
        if self.private:
            body["private"] = list(self.private)
        if self.oauth is not None:
            body["oauth"] = self.oauth.model_dump(mode="json", exclude_none=True)
        return body

    def _is_private(self) -> bool:
        try:
            parts, host = urlsplit(self.url), self.host
        except (ValueError, KeyError):
            return False
        if host not in self.private or parts.username is not None or parts.fragment:
            return False
        return parts.scheme == "https" or _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
