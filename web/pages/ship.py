"""A server's page, and what can be done there: enable, disable, configure, give secrets."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from catalog.vulnerabilities.statements import JUSTIFICATIONS, THE_ENTRY
from gateway.profiles.view import DEFAULT
from harbourmaster.core.errors import HarbourError
from web import connecting, deeds, judging
from web.evidence import signed_evidence
from web.harbour import Harbour
from web.identity import Who
from web.pages.catalog import has_advisories
from web.render import harbour_of, page
from web.requests import Admin, CheckedForm, Operator, Viewer
from web.ship import ship, verdict, version_diff

router = APIRouter()

SHOWN_CLIENTS = 6

DONE = {
    "enabled": "It is served now; connected clients are told.",
    "disabled": "It is served no more; it stays built and locked.",
    "configured": "Saved. The next sandbox starts with it.",
    "secret": "The secret is kept; the next sandbox gets it.",
    "judged": "Noted; every card and page says so from now on.",
    "forgotten": "The secret is forgotten.",
}


@router.get("/servers/{name:path}")
def server_page(request: Request, who: Viewer, name: str, done: str = "") -> Response:
    harbour = harbour_of(request)
    harbour.stock()
    return page(request, who, "ship.html", _context(harbour, who, name) | {"notice": DONE.get(done, "")})


def _context(harbour: Harbour, who: Who, name: str) -> dict[str, Any]:
    found = ship(harbour, name)
    advisories = has_advisories(harbour)
    return found | {
        "advisories": advisories,
        "verdict": verdict(found["server"], advisories=advisories),
        "config": _config(harbour, name) if found["locked"] else {},
        "job": harbour.jobs.of(name),
        "login": harbour.logins.of(name),
        "justifications": JUSTIFICATIONS,
        "the_entry": THE_ENTRY,
        "starter": deeds.is_starter(harbour.settings, name),
        "connections": connecting.connections(
            harbour.settings, harbour.places, with_token=who.may("operator"), most=SHOWN_CLIENTS
        ),
    }


def _config(harbour: Harbour, name: str) -> dict[str, Any]:
    try:
        return deeds.profile_config(harbour.settings, DEFAULT, name)
    except HarbourError:
        return {}  # a profile that cannot be read: saving says why


@router.get("/evidence/{name}")
def evidence(request: Request, who: Operator, name: str) -> Response:
    """Verified anew, and signed with this home's key."""
    body = signed_evidence(harbour_of(request).settings, name)
    headers = {"content-disposition": f'attachment; filename="{name}.intoto.json"'}
    return Response(body, headers=headers, media_type="application/json")


@router.get("/versions/{name:path}")
def versions_page(request: Request, who: Viewer, name: str, old: str, new: str) -> Response:
    lines = version_diff(harbour_of(request), name, old, new)
    return page(request, who, "versions.html", {"name": name, "old": old, "new": new, "lines": lines})


@router.post("/do/enable")
def enable(request: Request, who: Operator, form: CheckedForm) -> Response:
    name = deeds.required(form.get("name"), "the server's name")
    deeds.switch(harbour_of(request), who, name, on=True)
    return _back(name, "enabled")


@router.post("/do/disable")
def disable(request: Request, who: Operator, form: CheckedForm) -> Response:
    name = deeds.required(form.get("name"), "the server's name")
    deeds.switch(harbour_of(request), who, name, on=False)
    return _back(name, "disabled")


@router.post("/do/not-affected")
def not_affected(request: Request, who: Admin, form: CheckedForm) -> Response:
    name = deeds.required(form.get("name"), "the server's name")
    found = deeds.required(form.get("vulnerability"), "the vulnerability")
    judging.not_affected(harbour_of(request), who, name, found, form.get("because"), form.get("statement"))
    return _back(name, "judged")


@router.post("/do/affected-again")
def affected_again(request: Request, who: Admin, form: CheckedForm) -> Response:
    name = deeds.required(form.get("name"), "the server's name")
    judging.counts_again(harbour_of(request), who, name, form.get("vulnerability"))
    return _back(name, "judged")


@router.post("/do/build")
def build(request: Request, who: Operator, form: CheckedForm) -> Response:
    """In the background: its own page shows how far it is."""
    name = deeds.required(form.get("name"), "the server's name")
    deeds.build(harbour_of(request), who, name)
    return RedirectResponse(f"/servers/{quote(name, safe='/')}", 303)


@router.post("/do/adopt")
def adopt(request: Request, who: Admin, form: CheckedForm) -> Response:
    name = deeds.required(form.get("name"), "the server's name")
    deeds.adopt(harbour_of(request), who, name)
    return RedirectResponse(f"/servers/{quote(name, safe='/')}", 303)


@router.get("/jobs/{name:path}")
def job(request: Request, who: Viewer, name: str) -> Response:
    found = harbour_of(request).jobs.of(name)
    response = page(request, who, "job.html", {"job": found})
    if found is None or not found.active:
        response.headers["HX-Refresh"] = "true"  # the page is another one now
    return response


@router.post("/do/configure")
def configure(request: Request, who: Operator, form: CheckedForm) -> Response:
    name = deeds.required(form.get("name"), "the server's name")
    deeds.configure(harbour_of(request), who, form.get("profile") or DEFAULT, name, form.below("param."))
    return _back(name, "configured")


@router.post("/do/secret")
def secret(request: Request, who: Operator, form: CheckedForm) -> Response:
    name = deeds.required(form.get("name"), "the server's name")
    value = deeds.required(form.get("value"), "the value")
    deeds.set_secret(harbour_of(request), who, name, form.get("secret"), value)
    return _back(name, "secret")


@router.post("/do/secret/forget")
def forget(request: Request, who: Operator, form: CheckedForm) -> Response:
    name = deeds.required(form.get("name"), "the server's name")
    deeds.forget_secret(harbour_of(request), who, name, form.get("secret"))
    return _back(name, "forgotten")


def _back(name: str, done: str) -> Response:
    return RedirectResponse(f"/servers/{quote(name, safe='/')}?done={done}", 303)
