"""What clients may see and call: the listings of all enabled servers merged, once per lock, into bytes and routes.

Pure.  A list request costs a concatenation; no server needs to run for it.  Items are passed on as the servers wrote
them, unknown fields included; only a name or URI that would collide changes.
"""

from __future__ import annotations

import functools
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from gateway import eras, names, sdk
from gateway.errors import UnknownPrompt, UnknownResource, UnknownTool
from gateway.extensions import handshake_only, named, offered_extensions
from gateway.lock import LockedServer
from gateway.messages import encode
from harbourmaster.core.errors import HarbourError

# How long a modern client may keep a list without asking (2026-07-28, "Caching"); changes are announced at once to
# those who listen.  Private: what is listed may depend on who asks.
LIST_TTL_MS: Final = 10_000


class Sight(Protocol):
    """What of one server is served (``gateway.profiles.sight``); names and URIs as the server says them."""

    def tool(self, name: str) -> bool: ...
    def prompt(self, name: str) -> bool: ...
    def template(self, template: str) -> bool: ...
    def resource(self, uri: str) -> bool: ...


_EMPTY_SCHEMA: Final[dict[str, Any]] = {}
_NO_RULES: Final[Mapping[str, Sight]] = {}
_NO_PROBLEMS: Final[Mapping[str, HarbourError]] = {}


@dataclass(frozen=True, slots=True)
class Route:
    """Where a public name leads."""

    server: str
    name: str  # the server's own name, URI or URI template
    public: str
    schema: dict[str, Any] | None = None  # a tool's input schema, only when it asks for Mcp-Param-* headers


@dataclass(frozen=True)
class Index:
    servers: Mapping[str, LockedServer]
    tools: Mapping[str, Route]
    prompts: Mapping[str, Route]
    resources: Mapping[str, Route]
    templates: Mapping[str, Route]
    handshake_lists: Mapping[str, bytes]  # method -> result, for clients of the handshake era
    modern_lists: Mapping[str, bytes]
    capabilities: dict[str, Any]
    instructions: str
    discover: bytes  # result of server/discover
    server_info: dict[str, Any]
    public_uris: Mapping[names.Owned, str] = field(default_factory=dict)  # only those that differ from the server's own
    extensions: Mapping[str, Any] = field(default_factory=dict)  # of the protocol, that modern clients are offered
    problems: Mapping[str, HarbourError] = field(default_factory=dict)  # server -> why it cannot run, though listed
    visible: Mapping[str, Sight] = field(default_factory=dict)  # server -> what of it is served; the others: all
    unlisted: Mapping[str, Route] = field(
        default_factory=dict
    )  # templates that are not served, though URIs of theirs may be

    def tool(self, name: str) -> Route:
        route = self.tools.get(name)
        if route is None:
            raise UnknownTool(f"Unknown tool: {name}", remedy="list the tools again; the server may be disabled")
        return route

    def prompt(self, name: str) -> Route:
        route = self.prompts.get(name)
        if route is None:
            raise UnknownPrompt(f"Unknown prompt: {name}", remedy="list the prompts again")
        return route

    def resource(self, uri: str) -> Route:
        """The owner of ``uri``: listed, or of a template that matches, or the one server that could know it.

        Not what the profile keeps out, whoever would know it.
        """
        route = self.resources.get(uri) or self._by_template(uri) or self._by_elimination(uri)
        if route is None:
            raise UnknownResource(f"Resource not found: {uri}", remedy="list the resources again", uri=uri)
        return route

    def template(self, uri: str) -> Route:
        return self.templates.get(uri) or self.resource(uri)

    def initialize_result(self, version: str) -> dict[str, Any]:
        result: dict[str, Any] = {
            "protocolVersion": version,
            "capabilities": self.capabilities,
            "serverInfo": self.server_info,
        }
        if self.instructions:
            result["instructions"] = self.instructions
        return result

    def public_uri(self, server: str, uri: str) -> str:
        return self.public_uris.get((server, uri), uri)

    def _by_template(self, uri: str) -> Route | None:
        for public, route in (*self.templates.items(), *self.unlisted.items()):
            if sdk.template_matches(public, uri):
                own = uri.removeprefix(public.removesuffix(route.name))
                return Route(route.server, own, uri) if self._serves(route.server, own) else None
        return None

    def _serves(self, server: str, uri: str) -> bool:
        return server not in self.visible or self.visible[server].resource(uri)

    def _by_elimination(self, uri: str) -> Route | None:
        """A URI nobody listed (servers may mint them) belongs to whoever uses its scheme, if that is one server."""
        scheme = uri.partition(":")[0]
        having = {n for n, s in self.servers.items() if "resources" in s.listing.get("capabilities", {})}
        listed = {
            r.server
            for table in (self.resources, self.templates, self.unlisted)
            for r in table.values()
            if r.name.partition(":")[0] == scheme
        }
        owners = listed or having
        if len(owners) != 1:
            return None
        owner = owners.pop()
        return Route(owner, uri, uri) if self._serves(owner, uri) else None


def build(
    servers: Mapping[str, LockedServer],
    server_info: dict[str, Any],
    *,
    visible: Mapping[str, Sight] = _NO_RULES,
    problems: Mapping[str, HarbourError] = _NO_PROBLEMS,
    listed: Collection[str] | None = None,
    below: Index | None = None,
    before: Index | None = None,
) -> Index:
    """The index of ``servers``; the same for the same input.

    ``visible``: server -> what of it is served; that keeps the names it has with everything served.
    ``listed``: the servers that lists and instructions speak of; the others can be called all the same (None: all).
    ``below``: an index on top of which this one lies, so that its names are taken; its own servers keep theirs.
    ``before``: what this client was told until now, which stays.
    """

    def naming(name: Callable[..., dict[names.Owned, str]], table: str) -> Any:
        given = [getattr(each, table) for each in (below, before) if each is not None]
        kept = {(r.server, r.name): r.public for each in given for r in each.values() if r.server in servers}
        return functools.partial(name, kept=kept, taken=given[0] if below is not None else ())

    def served(kind: str) -> Served:
        return lambda server, name: server not in visible or getattr(visible[server], kind)(name)

    def merge(part: str, key: str, name: Callable[..., dict[names.Owned, str]], table: str, kind: str) -> _Merged:
        return _merge(servers, part, key, naming(name, table), served(kind), listed)

    tools = merge("tools", "name", names.public_names, "tools", "tool")
    prompts = merge("prompts", "name", names.public_names, "prompts", "prompt")
    resources = merge("resources", "uri", names.public_uris, "resources", "resource")
    templates = merge("resourceTemplates", "uriTemplate", names.public_uris, "templates", "template")
    lists = _lists(tools, prompts, resources, templates)
    every = listed is not None  # clients add servers: what none of them offers yet is offered too
    capabilities = _capabilities(servers, every=every)
    extensions = offered_extensions(servers.values(), modern=True, every=every)
    instructions = _instructions({n: s for n, s in servers.items() if listed is None or n in listed})
    return Index(
        servers=dict(servers),
        tools=_with_qualified(tools.routes),
        prompts=_with_qualified(prompts.routes),
        resources=resources.routes,
        templates=templates.routes,
        handshake_lists={method: encode(result) for method, result in lists.items()},
        modern_lists={method: encode(_modern(result, server_info)) for method, result in lists.items()},
        capabilities={**capabilities, **handshake_only(servers.values(), every=every)},
        instructions=instructions,
        discover=encode(_modern(_discover({**capabilities, **named(extensions)}, instructions), server_info)),
        server_info=server_info,
        extensions=extensions,
        public_uris={(r.server, r.name): p for p, r in resources.routes.items() if p != r.name},
        problems=problems,
        visible={name: sight for name, sight in visible.items() if name in servers},
        unlisted=templates.kept_out,
    )


def layered(top: Index, below: Index) -> Index:
    """``top`` over ``below``, which is shared: what clients add costs them no copy of all that they could call."""

    def over(table: str) -> Any:
        return ChainMap(getattr(top, table), getattr(below, table))

    tables = ("servers", "tools", "prompts", "resources", "templates", "public_uris", "visible", "unlisted")
    problems = {n: e for n, e in below.problems.items() if n not in top.servers} | dict(top.problems)
    return replace(top, **{table: over(table) for table in tables}, problems=problems)


@dataclass(frozen=True)
class _Merged:
    items: list[dict[str, Any]]
    routes: dict[str, Route]
    kept_out: dict[str, Route]


Served = Callable[[str, str], bool]  # (server, its own name for it)


def _merge(
    servers: Mapping[str, LockedServer],
    part: str,
    key: str,
    naming: Any,
    served: Served,
    listed: Collection[str] | None,
) -> _Merged:
    owned = [(name, item) for name, server in servers.items() for item in server.listing.get(part, [])]
    public = naming((name, item[key]) for name, item in owned)
    items: list[dict[str, Any]] = []
    routes: dict[str, Route] = {}
    kept_out: dict[str, Route] = {}
    for name, item in owned:
        shown = public[name, item[key]]
        if not served(name, item[key]):
            kept_out.setdefault(shown, Route(name, item[key], shown))
            continue
        if shown in routes:  # a server that lists one name twice: the first stands
            continue
        if listed is None or name in listed:
            items.append(item if shown == item[key] else {**item, key: shown})
        routes[shown] = Route(name, item[key], shown, _annotated_schema(item) if part == "tools" else None)
    return _Merged(items, routes, kept_out)


def _lists(tools: _Merged, prompts: _Merged, resources: _Merged, templates: _Merged) -> dict[str, dict[str, Any]]:
    """The result of each list, by its method."""
    return {
        "tools/list": {"tools": tools.items},
        "prompts/list": {"prompts": prompts.items},
        "resources/list": {"resources": resources.items},
        "resources/templates/list": {"resourceTemplates": templates.items},
    }


def _annotated_schema(tool: dict[str, Any]) -> dict[str, Any] | None:
    schema = tool.get("inputSchema", _EMPTY_SCHEMA)
    return schema if b'"x-mcp-header"' in encode(schema) else None


def _with_qualified(routes: dict[str, Route]) -> dict[str, Route]:
    """Add ``server__name`` for every route; a listed name wins over an alias."""
    aliases = {names.qualified(r.server, r.name): r for r in routes.values()}
    return {**aliases, **routes}


def _capabilities(servers: Mapping[str, LockedServer], *, every: bool) -> dict[str, Any]:
    """All lists are offered, even when empty: a server enabled later fills them, and a session's capabilities stay.

    ``every``: what no server offers yet too, because clients add servers.
    """
    each = [s.listing.get("capabilities") or {} for s in servers.values()]
    subscribe = every or any((c.get("resources") or {}).get("subscribe") for c in each)
    merged: dict[str, Any] = {
        "tools": {"listChanged": True},
        "prompts": {"listChanged": True},
        "resources": {"listChanged": True, **({"subscribe": True} if subscribe else {})},
    }
    for optional in ("logging", "completions"):
        if every or any(optional in c for c in each):
            merged[optional] = {}
    return merged


def _instructions(servers: Mapping[str, LockedServer]) -> str:
    said = [(n, s.listing.get("instructions")) for n, s in servers.items()]
    return "\n\n".join(f"# {name}\n\n{text}" for name, text in said if isinstance(text, str) and text)


def _discover(capabilities: dict[str, Any], instructions: str) -> dict[str, Any]:
    body: dict[str, Any] = {"supportedVersions": list(eras.MODERN_PROTOCOL_VERSIONS), "capabilities": capabilities}
    if instructions:
        body["instructions"] = instructions
    return body


def _modern(result: dict[str, Any], server_info: dict[str, Any]) -> dict[str, Any]:
    return {
        **result,
        "resultType": "complete",
        "ttlMs": LIST_TTL_MS,
        "cacheScope": "private",
        "_meta": {eras.SERVER_INFO_META_KEY: server_info},
    }
