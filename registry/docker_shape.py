"""The keys of Docker's ``server.yaml`` and where they may stand.

Source: ``pkg/servers/types.go`` of github.com/docker/mcp-registry at 818bf169.  Their reader passes over a key it does not know, so
that a line which someone wrote to restrict a server does nothing and nobody hears of it; here it is a finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ANY: dict[str, Any] = {"*": None}
_SCHEMA: dict[str, Any] = {k: None for k in ("type", "description", "required", "default", "anyOf")}
_SCHEMA |= {"items": ANY, "properties": {"*": _SCHEMA}}

SERVER: dict[str, Any] = {
    "name": None,
    "image": None,
    "type": None,
    "longLived": None,
    "requirement": None,
    "dynamic": {"tools": None},
    "meta": {"category": None, "tags": None},
    "about": {"title": None, "description": None, "icon": None},
    "source": {k: None for k in ("project", "upstream", "branch", "commit", "directory", "dockerfile", "buildTarget")},
    "remote": {"transport_type": None, "url": None, "headers": ANY},
    "run": {"command": None, "volumes": None, "user": None, "env": ANY, "allowHosts": None, "disableNetwork": None},
    "config": {
        "description": None,
        "secrets": [{k: None for k in ("name", "env", "example", "description", "required")}],
        "env": [{k: None for k in ("name", "example", "value")}],
        "parameters": _SCHEMA,
        "anyOf": None,
    },
    "oauth": [{"provider": None, "secret": None, "env": None}],
    "tools": [
        {
            "name": None,
            "description": None,
            "parameters": _SCHEMA,
            "container": {"image": None, "command": None, "volumes": None, "user": None},
        }
    ],
}


def unknown_keys(value: Any, shape: Any = SERVER, path: str = "") -> Iterator[str]:
    """The paths in ``value`` that ``shape`` does not name; what stands below such a path is not looked at."""
    if isinstance(shape, list):
        if isinstance(value, list):
            for i, item in enumerate(value):
                yield from unknown_keys(item, shape[0], f"{path}[{i}]")
    elif isinstance(shape, dict) and isinstance(value, dict) and shape is not ANY:
        for key, child in value.items():
            here = f"{path}.{key}" if path else str(key)
            if key in shape or "*" in shape:
                yield from unknown_keys(child, shape.get(key, shape.get("*")), here)
            else:
                yield here


def texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every string in ``value`` with its path, keys included."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from texts(item, f"{path}[{i}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            here = f"{path}.{key}" if path else str(key)
            yield here, str(key)
            yield from texts(item, here)
