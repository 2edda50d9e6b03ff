"""Held changes: what servers say now and what they were locked with, to be approved by a person."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from web import deeds
from web.render import harbour_of, page
from web.requests import Admin, CheckedForm, Viewer

router = APIRouter()


@router.get("/changes")
def changes(request: Request, who: Viewer, done: str = "") -> Response:
    notice = "It is served as it is now; a running gateway follows at once." if done == "approved" else ""
    return page(request, who, "changes.html", {"held": harbour_of(request).held(), "notice": notice})


@router.post("/do/approve")
def approve(request: Request, who: Admin, form: CheckedForm) -> Response:
    """Of exactly what was shown: the form carries its pin."""
    harbour = harbour_of(request)
    name, pin = deeds.required(form.get("name"), "the server's name"), deeds.required(form.get("pin"), "the pin")
    deeds.note(harbour, who, "approve", server=name, pin=pin)
    harbour.approve(name, pin)
    return RedirectResponse("/changes?done=approved", 303)
