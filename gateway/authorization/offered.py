"""An index without what a caller may never use.  Pure.

Only what is shown is narrowed: routes stay, so that a call to what was left out is refused in words instead of denied to
exist.  A server of which nothing is left does not speak in the instructions either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.authorization.things import OURS
from gateway.index import Index, Route
from gateway.messages import decode, encode

May = Callable[[str, list[Route]], list[bool]]  # (kind, routes) -> which of them

# method -> (key in its result, name of an item, kind)
_LISTS: Final[Mapping[str, tuple[str, str, str]]] = {
    "tools/list": ("tools", "name", "Tool"),
    "prompts/list": ("prompts", "name", "Prompt"),
    "resources/list": ("resources", "uri", "Resource"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate", "Resource"),
}


def offered(index: Index, may: May) -> Index:
    """``index`` itself where nothing is left out."""
    hidden: dict[str, set[str]] = {}
    left: set[str] = set()
    for method, (key, name, kind) in _LISTS.items():
        names = [item[name] for item in decode(index.handshake_lists[method])[key]]
        routes = [_route(index, key, each) for each in names]
        verdicts = may(kind, routes)
        hidden[method] = {each for each, yes in zip(names, verdicts, strict=True) if not yes}
        left |= {route.server for route, yes in zip(routes, verdicts, strict=True) if yes}
    if not any(hidden.values()):
        return index
    return _without(index, hidden, left)


def _without(index: Index, hidden: Mapping[str, set[str]], left: set[str]) -> Index:
    silent = {name for name in index.servers if name not in left and _offers(index, name)}
    instructions = _instructions(index, silent)
    discover = decode(index.discover)
    if instructions:
        discover["instructions"] = instructions
    else:
        discover.pop("instructions", None)
    return replace(
        index,
        handshake_lists={m: _narrowed(raw, m, hidden[m]) for m, raw in index.handshake_lists.items()},
        modern_lists={m: _narrowed(raw, m, hidden[m]) for m, raw in index.modern_lists.items()},
        instructions=instructions,
        discover=encode(discover),
    )


def _narrowed(raw: bytes, method: str, hidden: set[str]) -> bytes:
    if not hidden:
        return raw
    key, name, _ = _LISTS[method]
    body = decode(raw)
    body[key] = [item for item in body[key] if item[name] not in hidden]
    return encode(body)


def _instructions(index: Index, silent: set[str]) -> str:
    """Each server's own part begins as ``gateway.index`` begins it."""
    text = index.instructions
    for name in silent:
        said: Any = index.servers[name].listing.get("instructions")
        if isinstance(said, str) and said:
            text = text.replace(f"# {name}\n\n{said}", "")
    return "\n\n".join(part for part in text.split("\n\n") if part) if silent else text


def _offers(index: Index, server: str) -> bool:
    listing = index.servers[server].listing
    return any(listing.get(part) for part in ("tools", "prompts", "resources", "resourceTemplates"))


def _route(index: Index, key: str, public: str) -> Route:
    """Names that lead to no server are the gateway's own tools."""
    tables: dict[str, Mapping[str, Route]] = {
        "tools": index.tools,
        "prompts": index.prompts,
        "resources": index.resources,
        "resourceTemplates": index.templates,
    }
    return tables[key].get(public) or Route(OURS, public, public)
