"""The catalog: search as you type, facets, cards."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlmodel import func, select
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from catalog.models import Advisory
from catalog.search.filters import FACETS
from catalog.search.searcher import SearchRequest
from gateway.lock import read_lock
from web.harbour import Harbour
from web.render import harbour_of, is_htmx, page
from web.requests import Viewer
from web.words import FACET_TITLES, SORTS

router = APIRouter()

PAGE_SIZE = 24
SHOWN_FACETS = ("tier", "category", "evidence", "permission", "type", "state", "licence", "source")
SHOWN_VALUES = 8  # of a facet before "more"


@router.get("/")
def home(request: Request, who: Viewer) -> Response:
    harbour = harbour_of(request)
    harbour.stock()
    context = search_context(harbour, request.query_params, typing=is_htmx(request))
    return page(request, who, "catalog.html", context)


def search_context(harbour: Harbour, params: QueryParams, *, typing: bool) -> dict[str, Any]:
    """``typing``: the last word may not be whole yet."""
    asked = asked_for(params, typing=typing)
    found = harbour.searcher.search(asked)
    lock = read_lock(harbour.settings.lock_file)
    advisories = has_advisories(harbour)
    if not advisories:  # then nothing was compared with anything
        found.facets.get("evidence", {}).pop("no-known-vulnerabilities", None)
    return {
        "asked": asked,
        "found": found,
        "number": asked.offset // PAGE_SIZE + 1,
        "pages": max(1, -(-found.total // PAGE_SIZE)),
        "facets": _facets(found.facets, asked),
        "chosen": {k: list(v) for k, v in asked.filters.items()},
        "sorts": SORTS,
        "advisories": advisories,
        "enabled": {name for name, server in lock.items() if server.enabled},
        "built": set(lock),
    }


def asked_for(params: QueryParams, *, typing: bool = False) -> SearchRequest:
    """The search that an address asks for: ``q``, facets (repeated), ``sort``, ``page``."""
    number = params.get("page", "1")
    offset = (int(number) - 1) * PAGE_SIZE if number.isdecimal() and 0 < int(number[:6]) <= 100_000 else 0
    filters = {f: tuple(v for v in params.getlist(f) if v) for f in FACETS if any(params.getlist(f))}
    return SearchRequest(
        params.get("q", "")[:400],
        filters,
        params.get("sort") or "relevance",
        max(0, offset),
        PAGE_SIZE,
        prefix=typing,
    )


def has_advisories(harbour: Harbour) -> bool:
    with harbour.store.reading() as session:
        return bool(session.exec(select(func.count()).select_from(Advisory)).one())


def _facets(counts: dict[str, dict[str, int]], asked: SearchRequest) -> list[dict[str, Any]]:
    """Facets with something to choose: those of one value only stand there when they are chosen."""
    found = []
    for name in SHOWN_FACETS:
        chosen = asked.filters.get(name, ())
        values = {v: n for v, n in counts.get(name, {}).items() if n or v in chosen}
        values |= {v: 0 for v in chosen if v not in values}
        if len(values) > 1 or chosen:
            rows = [(v, n, v in chosen) for v, n in values.items()]
            rows.sort(key=lambda row: not row[2])
            found.append({"name": name, "title": FACET_TITLES[name], "values": rows, "more": SHOWN_VALUES})
    return found
