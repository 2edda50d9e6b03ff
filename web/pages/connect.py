"""Connecting clients to the gateway."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from web import connecting, deeds
from web.render import harbour_of, page
from web.requests import CheckedForm, Operator, Viewer

router = APIRouter()


@router.get("/connect")
def connect_page(request: Request, who: Viewer) -> Response:
    return _page(request, who, "")


@router.post("/do/connect")
def connect(request: Request, who: Operator, form: CheckedForm) -> Response:
    harbour = harbour_of(request)
    name = deeds.required(form.get("client"), "the client")
    deeds.note(harbour, who, "connect", client=name)
    client, change = connecting.connect_client(harbour.settings, harbour.places, name)
    what = f"{client.title} is connected{'' if change.changed else ' already'}: {change.path}."
    return _page(request, who, f"{what} Now: {client.reload}." if change.changed else what)


def _page(request: Request, who: Viewer, notice: str) -> Response:
    settings, where = harbour_of(request).settings, harbour_of(request).places
    found = connecting.connections(settings, where, with_token=who.may("operator"))
    context = {"connections": found, "endpoint": connecting.endpoint(settings, where), "notice": notice}
    return page(request, who, "connect.html", context)
