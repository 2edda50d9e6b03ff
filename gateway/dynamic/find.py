"""Search over the tools of every locked server, and over the whole catalog behind them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.lock import LockedServer
from gateway.messages import encode

if TYPE_CHECKING:  # the catalog's imports take a second, which a start need not pay: they wait for the first search
    from catalog.search.documents import SearchDocument
    from catalog.search.index import Index as SearchIndex

MAX_DESCRIPTION: Final = 600  # characters of one description in an answer; a model reads many at once
MAX_SCHEMA_BYTES: Final = 8 << 10  # of one tool's input schema in an answer
MAX_ARGUMENTS: Final = 50
_CONSIDERED: Final = 200  # best matches that are looked at for those the caller may use

Catalog = Callable[[str, int], list[dict[str, Any]]]  # (query, limit) -> cards; blocking


@dataclass(frozen=True)
class ToolFound:
    server: str
    tool: dict[str, Any]  # as its server says it


class ToolSearch:
    """Best matches among the tools of a lock.  Built in a thread when the lock is another, then kept."""

    def __init__(self) -> None:
        self._lock: Mapping[str, LockedServer] | None = None
        self._built: tuple[SearchIndex, list[ToolFound]] | None = None
        self._building = threading.Lock()

    async def find(
        self, query: str, lock: Mapping[str, LockedServer], may: Callable[[ToolFound], bool], limit: int
    ) -> list[ToolFound]:
        """At most ``limit`` tools that ``may`` lets through, best first."""
        ranked = await asyncio.to_thread(self._ranked, query, lock)
        found = []
        for each in ranked:
            if may(each):
                found.append(each)
                if len(found) == limit:
                    break
        return found

    def _ranked(self, query: str, lock: Mapping[str, LockedServer]) -> list[ToolFound]:
        with self._building:
            if self._built is None or self._lock is not lock:
                self._built, self._lock = _index(lock), lock
            index, tools = self._built
        if not tools:
            return []
        from catalog.search.query import understand
        from catalog.search.ranking import scores

        understood = understand(query, index)
        if not understood.slots:
            return []
        found, _ = scores(understood, index)
        order = (-found).argsort(kind="stable")[:_CONSIDERED]
        return [tools[number] for number in order if found[number] > 0]


def _index(lock: Mapping[str, LockedServer]) -> tuple[SearchIndex, list[ToolFound]]:
    from catalog.search.index import build

    tools = [ToolFound(s.name, t) for _, s in sorted(lock.items()) for t in s.listing.get("tools", [])]
    return build(_document(number, each, lock[each.server]) for number, each in enumerate(tools)), tools


def _document(number: int, found: ToolFound, server: LockedServer) -> SearchDocument:
    from catalog.search.documents import Card, SearchDocument, words_of

    tool = found.tool
    said = str(tool.get("description") or "")
    info = server.listing.get("serverInfo") or {}
    title = str(tool.get("title") or (tool.get("annotations") or {}).get("title") or "")
    card = Card(
        id=number, name=tool["name"], title=title, description=said, kind="server", category="", tier=server.tier,
        publisher=server.name, licence="", icon="", status="active", network="", needs_secrets=False, read_only=False,
        runnable=True, updated_at="", source="lock",
    )  # fmt: skip
    keywords = f"{server.name} {info.get('title') or info.get('name') or ''}"
    return SearchDocument(card, words_of(card, [(tool["name"], said, _arguments(tool))], keywords, ""))


def _arguments(tool: Mapping[str, Any]) -> list[str]:
    schema = tool.get("inputSchema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return [str(name) for name in properties] if isinstance(properties, dict) else []


def shortened(text: Any) -> str:
    said = str(text or "").strip()
    return said if len(said) <= MAX_DESCRIPTION else said[: MAX_DESCRIPTION - 1] + "…"


def fitting(schema: Any) -> Any:
    """``schema``, or as much as names its arguments where it is too long for a list of several."""
    if len(encode(schema)) <= MAX_SCHEMA_BYTES:
        return schema
    properties = schema.get("properties") if isinstance(schema, dict) else None
    names = list(properties)[:MAX_ARGUMENTS] if isinstance(properties, dict) else []
    note = f"too long to show whole; {len(names)} of its arguments. mcp-add lists the tool with all of it"
    return {"type": "object", "properties": {name: {} for name in names}, "description": note}


def from_catalog(catalog: Catalog | None, query: str, limit: int, known: Iterable[str]) -> list[dict[str, Any]]:
    """Servers that the catalog has and this lock does not."""
    if catalog is None:
        return []
    have = set(known)
    return [card for card in catalog(query, limit) if card["name"] not in have][:limit]
