"""Publishing to this catalog's registry API from a page: what was published, a new version, and what became of an old one."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from catalog import publishing
from catalog.service import utc_now
from harbourmaster.core.errors import HarbourError
from web import deeds
from web.harbour import Harbour
from web.identity import Who
from web.render import harbour_of, page
from web.requests import Admin, CheckedForm, Viewer

router = APIRouter()

DONE = {
    "published": "Published: clients of the registry API see it at once.",
    "status": "The version's status is what it says now.",
}


@router.get("/publish")
def publish_page(request: Request, who: Viewer, done: str = "") -> Response:
    return _page(request, who, notice=DONE.get(done, ""))


@router.post("/do/publish")
def publish(request: Request, who: Admin, form: CheckedForm) -> Response:
    """What is refused comes back with the reason and with what was written."""
    harbour, text = harbour_of(request), form.get("document")
    try:
        _publish(harbour, who, deeds.required(text.strip(), "the server.json"))
    except HarbourError as e:
        return _page(request, who, error=e, document=text, status=400)
    return RedirectResponse("/publish?done=published", 303)


def _publish(harbour: Harbour, who: Who, text: str) -> None:
    deeds.note(harbour, who, "publish")
    publishing.publish(harbour.store, harbour.settings, text.encode("utf-8", "surrogatepass"), now=utc_now())


@router.post("/do/publish/status")
def status(request: Request, who: Admin, form: CheckedForm) -> Response:
    harbour = harbour_of(request)
    name, version = deeds.required(form.get("name"), "the name"), deeds.required(form.get("version"), "the version")
    wanted, message = form.get("status"), form.get("message").strip()
    deeds.note(harbour, who, "publish_status", server=name[:255], version=version[:255], status=wanted[:20])
    publishing.set_status(harbour.store, harbour.settings, name, version, wanted, message, now=utc_now())
    return RedirectResponse("/publish?done=status", 303)


def _page(
    request: Request,
    who: Who,
    *,
    error: HarbourError | None = None,
    document: str = "",
    notice: str = "",
    status: int = 200,
) -> Response:
    context = {
        "published": publishing.published(harbour_of(request).store),
        "statuses": publishing.STATUSES,
        "error": error,
        "document": document,
        "notice": notice,
    }
    return page(request, who, "publish.html", context, status=status)
