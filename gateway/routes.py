"""Which server a request is for, and the request as that server knows it.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.errors import BadRequest
from gateway.index import Index, Route
from gateway.protocol import INVALID_PARAMS

Finder = Callable[[Index, dict[str, Any]], Route]


def _named(index: Index, params: dict[str, Any], find: Callable[[Index, str], Route], key: str) -> Route:
    name = params.get(key)
    if not isinstance(name, str):
        raise BadRequest(f"Invalid params: {key} must be a string", rpc=INVALID_PARAMS)
    route = find(index, name)
    params[key] = route.name
    return route


def _tool(index: Index, params: dict[str, Any]) -> Route:
    if not isinstance(params.get("arguments", {}), (dict, type(None))):
        raise BadRequest("Invalid params: arguments must be an object", rpc=INVALID_PARAMS)
    return _named(index, params, Index.tool, "name")


def _prompt(index: Index, params: dict[str, Any]) -> Route:
    return _named(index, params, Index.prompt, "name")


def _resource(index: Index, params: dict[str, Any]) -> Route:
    return _named(index, params, Index.resource, "uri")


def _completion(index: Index, params: dict[str, Any]) -> Route:
    ref = params.get("ref")
    if not isinstance(ref, dict):
        raise BadRequest("Invalid params: ref must be an object", rpc=INVALID_PARAMS)
    if ref.get("type") == "ref/prompt":
        return _named(index, ref, Index.prompt, "name")
    if ref.get("type") == "ref/resource":
        return _named(index, ref, Index.template, "uri")
    raise BadRequest("Invalid params: ref.type must be ref/prompt or ref/resource", rpc=INVALID_PARAMS)


# Requests that go to a server.  Each finder also rewrites ``params`` from the public name to the server's own.
ROUTED: Final[Mapping[str, Finder]] = {
    "tools/call": _tool,
    "prompts/get": _prompt,
    "resources/read": _resource,
    "completion/complete": _completion,
}

# Handshake era only; modern clients listen instead.
SUBSCRIPTIONS: Final[Mapping[str, Finder]] = {
    "resources/subscribe": _resource,
    "resources/unsubscribe": _resource,
}
