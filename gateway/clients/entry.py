"""A client's entry for this gateway: templates filled in, and merged with what the person keeps there.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.clients.table import Client

ENTRY_NAME = "harbourmaster"
TITLE = "Harbourmaster: verified, locked-down MCP servers"

Transport = Literal["http", "stdio"]


@dataclass(frozen=True)
class Endpoint:
    """How a client reaches this gateway, either way."""

    url: str
    command: str  # absolute path of hm
    args: tuple[str, ...] = ("gateway", "run", "--transport", "stdio")
    env: dict[str, str] = field(default_factory=dict)


def entry(client: Client, transport: Transport, endpoint: Endpoint, token: str) -> dict[str, Any]:
    """What stands under our name in the client's file.  ``token`` is used by http alone."""
    template = client.stdio if transport == "stdio" else client.http
    values: dict[str, Any] = {
        "{url}": endpoint.url,
        "{bearer}": f"Bearer {token}",
        "{command}": endpoint.command,
        "{args}": list(endpoint.args),
        "{argv}": [endpoint.command, *endpoint.args],
        "{env}": dict(endpoint.env),
        "{name}": ENTRY_NAME,
        "{title}": TITLE,
    }
    filled: dict[str, Any] = _fill(template or {}, values)
    return filled


def _fill(template: Any, values: dict[str, Any]) -> Any:
    if isinstance(template, str):
        return values.get(template, template)
    if isinstance(template, dict):
        return {k: _fill(v, values) for k, v in template.items() if v != "{env}" or values["{env}"]}
    return list(template) if isinstance(template, list) else template


def merged(client: Client, existing: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """``wanted`` and whatever else the person or the client wrote into our entry (approved tools, timeouts)."""
    ours = set(client.stdio) | set(client.http or {})
    kept = {k: v for k, v in existing.items() if k not in ours} if isinstance(existing, dict) else {}
    return {**wanted, **kept}


def transport_of(client: Client, found: Any) -> Transport | None:
    """Which of the two an entry in the file is, or None when it is neither."""
    if not isinstance(found, dict):
        return None
    if client.http is not None and (_marker(client.http) & set(_flat(found))):
        return "http"
    return "stdio" if _marker(client.stdio) & set(_flat(found)) else None


def _marker(template: dict[str, Any]) -> set[str]:
    """The keys that carry the address or the command."""
    return {k for k, v in _flat(template).items() if v in ("{url}", "{command}", "{argv}")}


def _flat(body: dict[str, Any]) -> dict[str, Any]:
    inner = {k: v for nested in body.values() if isinstance(nested, dict) for k, v in nested.items()}
    return {**inner, **body}
