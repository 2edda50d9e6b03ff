"""An index without what a caller may never use.  Pure.

Only what is shown is narrowed: routes stay, so that a call to what was left out is refused in words instead of denied to
exist.  A server of which nothing is left does not speak in the instructions either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

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
    for method, table in _tables(index).items():
        routes = [
            route for name, route in table.items() if route.public == name
        ]  # the rest are names beside the listed
        verdicts = may(_LISTS[method][2], routes)
        hidden[method] = {route.public for route, yes in zip(routes, verdicts, strict=True) if not yes}
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
        handshake_lists=_Narrowed(index.handshake_lists, hidden),
        modern_lists=_Narrowed(index.modern_lists, hidden),
        instructions=instructions,
        discover=encode(discover),
    )


class _Narrowed(Mapping[str, bytes]):
    """Lists without what is hidden, made when one is asked for: a client speaks one era, and few ask for all four."""

    def __init__(self, whole: Mapping[str, bytes], hidden: Mapping[str, set[str]]) -> None:
        self._whole, self._hidden = whole, hidden
        self._made: dict[str, bytes] = {}

    def __getitem__(self, method: str) -> bytes:
        if method not in self._made:
            self._made[method] = _narrowed(self._whole[method], method, self._hidden[method])
        return self._made[method]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole)

    def __len__(self) -> int:
        return len(self._whole)


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


def _tables(index: Index) -> dict[str, Mapping[str, Route]]:
    return {
        "tools/list": index.tools,
        "prompts/list": index.prompts,
        "resources/list": index.resources,
        "resources/templates/list": index.templates,
    }
