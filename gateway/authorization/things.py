"""What a request is about, as the policies know it.  Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.downstream import Downstream
from gateway.index import Route
from gateway.lock import LockedServer
from gateway.principals import Principal
from policies.authorization import Caller, Thing

OURS: Final = "harbourmaster"  # the server that the gateway's own tools belong to

# method -> (action, kind); what is not named here is answered by the gateway itself.
ACTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "tools/call": ("call", "Tool"),
    "prompts/get": ("get", "Prompt"),
    "resources/read": ("read", "Resource"),
    "resources/subscribe": ("read", "Resource"),
    "resources/unsubscribe": ("read", "Resource"),
    **dict.fromkeys(
        ("tasks/get", "tasks/result", "tasks/update", "tasks/cancel"), ("call", "Tool")
    ),  # of the tool that began it
    "exec": ("exec", "Tool"),  # the gateway's dynamic tools and code mode ask for this by name
}
LISTED: Final = {"tools": ("call", "Tool"), "prompts": ("get", "Prompt"), "resources": ("read", "Resource")}

# Annotation -> (attribute, what silence means): 2025-11-25 schema, ToolAnnotations.
_ANNOTATIONS: Final = {
    "readOnlyHint": ("read_only", False),
    "destructiveHint": ("destructive", True),
    "idempotentHint": ("idempotent", False),
    "openWorldHint": ("open_world", True),
}


class Annotations:
    """The annotations of every locked tool, read once per server as it is locked."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[LockedServer, dict[str, tuple[tuple[str, bool], ...]]]] = {}

    def of(self, server: LockedServer, tool: str) -> tuple[tuple[str, bool], ...]:
        known = self._known.get(server.name)
        if known is None or known[0] is not server:
            found = {t["name"]: annotated(t) for t in server.listing.get("tools") or []}
            known = self._known[server.name] = (server, found)
        return known[1].get(tool, SILENT)


def annotated(tool: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
    """Only true and false count; a tool that is not destructive because it only reads says so by reading only."""
    said = tool.get("annotations")
    if not isinstance(said, dict):
        return SILENT
    found = {
        attribute: said[key] if isinstance(said.get(key), bool) else default
        for key, (attribute, default) in _ANNOTATIONS.items()
    }
    if found["read_only"] and "destructiveHint" not in said:
        found["destructive"] = False  # "meaningful only when readOnlyHint == false"
    return tuple(found.items())


SILENT: Final = annotated({"annotations": {}})


def caller(principal: Principal) -> Caller:
    return Caller(
        text(principal.name),
        principal.key,
        principal.scopes,
        principal.servers,
        principal.profiles,
        frozenset(text(group) for group in principal.groups),
        principal.admin,
        text(principal.issuer),
    )


def asked(method: str, ref: Any = None) -> tuple[str, str]:
    """(action, kind) of a routed method; completion is what it completes: a prompt's argument, or a resource's."""
    if method == "completion/complete":
        prompt = isinstance(ref, dict) and ref.get("type") == "ref/prompt"
        return ("get", "Prompt") if prompt else ("read", "Resource")
    return ACTIONS[method]


def thing(kind: str, server: LockedServer | None, route: Route, known: Annotations) -> Thing:
    own = known.of(server, route.name) if server is not None and kind == "Tool" else SILENT
    own = own if kind == "Tool" else ()
    return Thing(kind, route.server, text(route.name), server.tier if server is not None else "built", own)


def request(client: Downstream, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The context of a decision; only asked for where a policy could look at it."""
    name = client.client_info.get("name")
    return request_of(method, client.view.name, name if isinstance(name, str) else "", params.get("arguments"))


def request_of(method: str, profile: str, client: str, arguments: Any) -> dict[str, Any]:
    now = time.localtime()
    return {
        "method": method,
        "profile": profile,
        "client": text(client),
        "hour": now.tm_hour,
        "weekday": now.tm_wday + 1,  # 1 is Monday, as ISO 8601 counts
        "argument_names": sorted(text(key) for key in arguments) if isinstance(arguments, dict) else [],
        "arguments": _canonical(arguments),
    }


def _canonical(value: Any) -> str:
    try:
        return orjson.dumps(value if value is not None else {}, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # numbers over 64 bits, lone surrogates
        return text(repr(value))


def text(value: str) -> str:
    """``value`` without halves of surrogate pairs, which no policy language has a word for."""
    return value.encode("utf-8", "backslashreplace").decode()
