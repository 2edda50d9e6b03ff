"""Docker's catalog tiles <-> the keys of a ``server.yaml``, so that one set of checks reads both.

Source of the form: ``pkg/catalog/types.go`` of github.com/docker/mcp-gateway at 2bd20fe8 (v2 and v3 have one schema).
"""

from __future__ import annotations

import re
from typing import Any

from catalog.sources.checks import at, mappings, strings
from registry.docker_shape import ANY

_ITEM = {k: None for k in ("name", "env", "example", "description", "required", "value")}
TILE: dict[str, Any] = {
    k: None
    for k in [
        "title",
        "description",
        "type",
        "image",
        "ref",
        "dateAdded",
        "readme",
        "toolsUrl",
        "source",
        "upstream",
        "icon",
        "prompts",
        "command",
        "volumes",
        "user",
        "allowHosts",
        "disableNetwork",
        "extraHosts",
        "longLived",
        "prefix",
    ]
}
TILE |= {
    "resources": ANY,
    "secrets": [_ITEM],
    "env": [_ITEM],
    "config": [ANY],
    "tools": [ANY],
    "oauth": {"providers": [ANY], "scopes": None},
    "remote": {"url": None, "transport_type": None, "headers": ANY},
    "metadata": {
        k: None for k in ["pulls", "stars", "githubStars", "category", "tags", "license", "owner", "registryUrl"]
    },
}
_COMMIT = re.compile(r"/tree/([0-9a-f]{40})(?:/|$)")
_RUN = ("command", "volumes", "user", "allowHosts", "disableNetwork")


def submission_of(name: str, tile: Any) -> dict[str, Any]:
    """The tile in the keys of a ``server.yaml``."""
    commit = _COMMIT.search(str(at(tile, "source", "")))
    properties = {k: v for c in mappings(at(tile, "config", [])) for k, v in _properties(c).items()}
    document = {
        "name": name,
        "type": at(tile, "type", "server"),
        "image": at(tile, "image"),
        "longLived": at(tile, "longLived"),
        "about": {
            "title": at(tile, "title", name),
            "description": at(tile, "description", ""),
            "icon": at(tile, "icon"),
        },
        "meta": {"category": at(tile, "metadata.category", ""), "tags": at(tile, "metadata.tags", [])},
        "source": {"project": at(tile, "upstream"), "commit": commit[1] if commit else None},
        "run": {k: tile[k] for k in _RUN if k in tile},
        "config": {
            "secrets": at(tile, "secrets", []),
            "env": at(tile, "env", []),
            "parameters": {"type": "object", "properties": properties},
        },
        "oauth": at(tile, "oauth.providers", []),
        "remote": at(tile, "remote", {}),
        "tools": at(tile, "tools", []),
    }
    return {k: v for k, v in document.items() if v is not None}


def _properties(config: dict[str, Any]) -> dict[str, Any]:
    found = config.get("properties")
    return found if isinstance(found, dict) else {}


_PLACES = (
    ("about.", ""),
    ("meta.", "metadata."),
    ("run.", ""),
    ("config.parameters.", "config[0]."),
    ("config.", ""),
    ("source.project", "upstream"),
    ("oauth", "oauth.providers"),
)


def tile_path(path: str) -> str:
    """Where in a tile that stands which a check found at ``path`` of the ``server.yaml`` form."""
    for start, place in _PLACES:
        if path.startswith(start):
            return place + path.removeprefix(start)
    return path


def tile_of(document: Any) -> dict[str, Any]:
    """A ``server.yaml`` as a tile, as Docker's own conversion does it; empty parts are left out."""
    name = str(at(document, "name"))
    parameters = at(document, "config.parameters", {})
    config = [{"name": name, "description": at(document, "config.description", ""), **parameters}] if parameters else []
    providers = mappings(at(document, "oauth", []))
    tile = {
        "title": at(document, "about.title", name),
        "description": at(document, "about.description", ""),
        "type": at(document, "type", "server"),
        "image": at(document, "image"),
        "source": _source(document),
        "upstream": at(document, "source.upstream") or at(document, "source.project"),
        "icon": at(document, "about.icon"),
        "tools": at(document, "tools", []),
        "secrets": at(document, "config.secrets", []),
        "oauth": {"providers": providers} if providers else {},
        "env": at(document, "config.env", []),
        **{k: at(document, f"run.{k}") for k in _RUN},
        "longLived": at(document, "longLived"),
        "remote": at(document, "remote", {}),
        "config": config,
        "metadata": {"category": at(document, "meta.category"), "tags": strings(at(document, "meta.tags", []))},
    }
    return {k: v for k, v in tile.items() if v not in (None, "", [], {})}


def _source(document: Any) -> str | None:
    project, commit = at(document, "source.project"), at(document, "source.commit")
    if not (project and commit):
        return None
    folder = at(document, "source.directory")
    return f"{str(project).removesuffix('.git')}/tree/{commit}" + (f"/{folder}" if folder else "")
