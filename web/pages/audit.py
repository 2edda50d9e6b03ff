"""The audit: search, and whether anybody changed it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from harbourmaster.core import audit
from harbourmaster.core.audit_search import CHAIN, as_text, matcher, moment, search
from harbourmaster.core.errors import HarbourError, UsageError
from web.render import harbour_of, page
from web.requests import Viewer

router = APIRouter()

KINDS = ("admission", "call", "sandbox", "egress", "pin", "gateway", "console", "audit")
SHOWN = 200


@router.get("/audit")
def audit_page(
    request: Request, who: Viewer, q: str = "", kind: str = "", since: str = "", verify: str = ""
) -> Response:
    directory = harbour_of(request).settings.audit_dir
    records, error = [], None
    try:
        records = find(directory, q, kind, since)
    except UsageError as e:
        error = e
    context = {
        "q": q,
        "kind": kind,
        "since": since,
        "kinds": KINDS,
        "records": [_row(record) for record in reversed(records)],
        "shown": SHOWN,
        "error": error,
        "intact": None,
        "broken": None,
    }
    if verify:
        context |= _verified(directory)
    return page(request, who, "audit.html", context)


def find(directory: Any, q: str, kind: str, since: str) -> list[dict[str, Any]]:
    """As `hm audit search`, oldest first.  Raises ``UsageError``."""
    terms = [*q.split(), *([f"kind={kind}"] if kind else [])]
    return search(directory, matcher(terms, moment(since.strip(), datetime.now(UTC))), SHOWN)


def _row(record: dict[str, Any]) -> dict[str, Any]:
    facts = {k: as_text(v) for k, v in record.items() if k not in CHAIN and v is not None}
    return {"seq": record["seq"], "ts": record["ts"], "kind": record["kind"], "facts": facts}


def _verified(directory: Any) -> dict[str, Any]:
    try:
        return {"intact": audit.verify(directory) if directory.exists() else None, "broken": None}
    except HarbourError as e:
        return {"intact": None, "broken": e}
