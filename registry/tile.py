"""Our entry as a tile of Docker's catalog, as far as that form can say it.  Pure.

Form: ``pkg/catalog/types.go`` of github.com/docker/mcp-gateway at 2bd20fe8.  It knows no limits, no private addresses and no
secrets in files; whoever reads the tile instead of the entry goes without them.
"""

from __future__ import annotations

import re
from typing import Any

from registry.entry import Entry

_TEMPLATE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")


def tile_of_entry(entry: Entry, image: str) -> dict[str, Any]:
    """``image``: where it is pulled from, by digest; empty for a remote server.  Empty parts are left out."""
    tile = {
        "title": entry.about.title,
        "description": entry.about.description.strip(),
        "type": entry.type,
        "image": image,
        "upstream": entry.homepage,
        "icon": entry.about.icon,
        "tools": [{"name": tool.name} for tool in entry.tools],
        "secrets": [_secret(secret) for secret in entry.config.secrets],
        "oauth": {"providers": [item.model_dump() for item in entry.oauth]} if entry.oauth else {},
        "env": _env(entry),
        "command": [_named(entry, text) for text in entry.run.command],
        "volumes": [_named(entry, text) for text in entry.run.volumes],
        "user": entry.run.user,
        "allowHosts": list(entry.run.network.hosts),
        "disableNetwork": entry.type == "server" and not entry.run.network.hosts,
        "longLived": entry.run.long_lived,
        "remote": _remote(entry),
        "config": _config(entry),
        "metadata": _metadata(entry),
    }
    return {key: value for key, value in tile.items() if value not in (None, "", [], {}, False)}


def _secret(secret: Any) -> dict[str, Any]:
    body = {"name": secret.name, "env": secret.env, "description": secret.description, "required": secret.required}
    return body | ({"example": secret.example} if secret.example else {})


def _env(entry: Entry) -> list[dict[str, str]]:
    pairs = [*entry.run.env.items(), *((item.name, item.value) for item in entry.config.env)]
    return [{"name": name, "value": _named(entry, value)} for name, value in pairs]


def _remote(entry: Entry) -> dict[str, Any]:
    if entry.remote is None:
        return {}
    body = {"url": entry.remote.url, "transport_type": entry.remote.transport}
    return body | ({"headers": dict(entry.remote.headers)} if entry.remote.headers else {})


def _config(entry: Entry) -> list[dict[str, Any]]:
    if not entry.config.parameters:
        return []
    return [{"name": entry.name, "description": entry.config.description or "", **entry.config.json_schema()}]


def _metadata(entry: Entry) -> dict[str, Any]:
    body = {"category": entry.meta.category, "tags": list(entry.meta.tags), "license": entry.licence}
    return {key: value for key, value in body.items() if value}


def _named(entry: Entry, text: str) -> str:
    """Theirs puts the server's name before the parameter's."""
    return _TEMPLATE.sub(lambda match: f"{{{{{entry.name}.{match[1]}}}}}", text)
