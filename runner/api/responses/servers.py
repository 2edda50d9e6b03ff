"""Which MCP servers a request may name.  An address from a request is never connected to: it only picks one that the operator wrote.

Without that rule every page and program that reaches the runner could make it call addresses of its host's networks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from harbourmaster.core.settings import Settings
from runner.agent.gateway import gateway_token
from runner.errors import ToolServerRefused

OWN = "harbourmaster"  # the label of this home's gateway
_PROFILE = re.compile(r"/[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class ToolServers:
    urls: Mapping[str, str] = field(default_factory=dict)  # label -> address
    settings: Settings | None = None  # set: the gateway's default token is lent to requests that bring none

    @classmethod
    def of(cls, settings: Settings) -> ToolServers:
        own = f"http://127.0.0.1:{settings.gateway_port}/mcp"
        return cls({OWN: own, **settings.runner_gateways}, settings if settings.runner_lends_token else None)

    def find(self, label: str, url: str) -> str:
        """The address to connect to; raises ``ToolServerRefused``."""
        if not url:
            if label in self.urls:
                return self.urls[label]
            raise self._refusal(f"no tool server is named {label!r} here")
        wanted = _parts(url)
        for name, known in self.urls.items():
            base = _parts(known)
            if wanted is None or base is None or wanted[:3] != base[:3]:
                continue
            rest = wanted[3].removeprefix(base[3])
            if wanted[3] == base[3] or (name == OWN and wanted[3].startswith(base[3]) and _PROFILE.fullmatch(rest)):
                return f"{known.rstrip('/')}{rest}"
        raise self._refusal(f"the tool server {url!r} is not one that this runner may use")

    def lent_token(self, url: str) -> str:
        own = self.urls.get(OWN, "")
        return (
            gateway_token(self.settings) if self.settings and own and (url == own or url.startswith(f"{own}/")) else ""
        )

    def _refusal(self, what: str) -> ToolServerRefused:
        known = ", ".join(sorted(self.urls)) or "none"
        return ToolServerRefused(
            what, remedy=f"allowed here: {known}; whoever runs this adds others to runner_gateways", param="tools"
        )


def _parts(url: str) -> tuple[str, str, int, str] | None:
    """Scheme, host, port and path of an address that is nothing but that; None for any other."""
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    plain = not (parts.username or parts.password or parts.query or parts.fragment)
    if not (plain and port and parts.hostname and url.isascii() and url.isprintable()) or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname.lower(), port, parts.path.rstrip("/")
