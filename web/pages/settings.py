"""Settings and health: what `hm doctor` says, where servers come from, who may log in."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from catalog.service import add_source, list_sources, remove_source, sync_source
from catalog.sync import KINDS
from web import deeds
from web.access import console_tokens
from web.identity import role_of
from web.render import harbour_of, page
from web.requests import Admin, CheckedForm, Operator, Viewer

router = APIRouter()

DONE = {
    "synced": "The source was read.",
    "added": "The source was added and read.",
    "removed": "The source and what came from it alone are gone.",
}
SECRET_SETTINGS = frozenset({"secrets_passphrase", "database_url"})


@router.get("/settings")
def settings_page(request: Request, who: Viewer, done: str = "") -> Response:
    harbour = harbour_of(request)
    shown = harbour.settings.model_dump(mode="json", exclude=set(SECRET_SETTINGS))
    context = {
        "findings": harbour.examine(),
        "sources": list_sources(harbour.store),
        "kinds": KINDS,
        "settings": {k: v for k, v in shown.items() if isinstance(v, str | int | float | bool | list)},
        "tokens": [(t.name, role_of(t.name), t.created) for t in console_tokens(harbour.settings).list()],
        "notice": DONE.get(done, ""),
    }
    return page(request, who, "settings.html", context)


@router.post("/do/source/sync")
def sync(request: Request, who: Operator, form: CheckedForm) -> Response:
    harbour = harbour_of(request)
    name = deeds.required(form.get("name"), "the source")
    deeds.note(harbour, who, "source_sync", source=name)
    sync_source(harbour.store, harbour.settings, name)
    return RedirectResponse("/settings?done=synced#sources", 303)


@router.post("/do/source/add")
def add(request: Request, who: Admin, form: CheckedForm) -> Response:
    harbour = harbour_of(request)
    name, kind = deeds.required(form.get("name"), "the name"), deeds.required(form.get("kind"), "the kind")
    location = deeds.required(form.get("location"), "the place").strip()
    deeds.note(harbour, who, "source_add", source=name, source_kind=kind)
    add_source(harbour.store, name, kind, location)
    sync_source(harbour.store, harbour.settings, name)
    return RedirectResponse("/settings?done=added#sources", 303)


@router.post("/do/source/remove")
def remove(request: Request, who: Admin, form: CheckedForm) -> Response:
    harbour = harbour_of(request)
    name = deeds.required(form.get("name"), "the source")
    deeds.note(harbour, who, "source_remove", source=name)
    remove_source(harbour.store, name)
    return RedirectResponse("/settings?done=removed#sources", 303)
