"""A server's result as the client's era and names want it.  Pure; everything not named here passes untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway import eras
from gateway.errors import INVALID_PARAMS, RESOURCE_NOT_FOUND
from gateway.index import Route
from harbourmaster.core.errors import HarbourError

_MODERN_ONLY = ("resultType", "ttlMs", "cacheScope")


def shape(
    result: dict[str, Any], method: str, route: Route, server_info: dict[str, Any], *, client: bool, server: bool
) -> None:
    """Alter ``result`` in place; ``client`` and ``server`` say whether each side is modern."""
    if client and not server:
        _to_modern(result, method, server_info)
    elif server and not client:
        _to_handshake(result)
    if method == "resources/read" and route.public != route.name:
        _publish(result, route)


def explain(result: dict[str, Any], limit_in: Callable[[str], HarbourError | None]) -> None:
    """To a tool error that speaks of a limit of the sandbox, add which limit it is and what raises it, as one more text."""
    content = result.get("content")
    if not isinstance(content, list):
        return
    texts = [item.get("text") for item in content if isinstance(item, dict)]
    limit = limit_in("\n".join(text for text in texts if isinstance(text, str)))
    if limit is not None:
        content.append({"type": "text", "text": f"{limit.message} [{limit.code}]: {limit.remedy}"})


def shape_error(error: dict[str, Any]) -> None:
    """A resource that nobody has is, for a modern client, an invalid parameter (SEP-2164)."""
    if error.get("code") == RESOURCE_NOT_FOUND:
        error["code"] = INVALID_PARAMS


def _to_modern(result: dict[str, Any], method: str, server_info: dict[str, Any]) -> None:
    result.setdefault("resultType", "complete")
    if method == "resources/read":
        result.setdefault("ttlMs", 0)
        result.setdefault("cacheScope", "private")
    meta = result.setdefault("_meta", {})
    if isinstance(meta, dict) and server_info:
        meta.setdefault(eras.SERVER_INFO_META_KEY, server_info)


def _to_handshake(result: dict[str, Any]) -> None:
    """Some handshake clients refuse keys they do not know in a result."""
    for key in _MODERN_ONLY:
        result.pop(key, None)
    meta = result.get("_meta")
    if isinstance(meta, dict):
        meta.pop(eras.SERVER_INFO_META_KEY, None)
        if not meta:
            del result["_meta"]


def _publish(result: dict[str, Any], route: Route) -> None:
    contents = result.get("contents")
    for item in contents if isinstance(contents, list) else ():
        if isinstance(item, dict) and item.get("uri") == route.name:
            item["uri"] = route.public
