"""What handlers ask of a request: who it is, and a form that was sent from a page of ours."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends
from starlette.requests import ClientDisconnect, Request

from harbourmaster.core.errors import HarbourError
from web.errors import FormInvalid, LoginNeeded
from web.guard import SAFE
from web.identity import Who
from web.render import harbour_of

COOKIE = "harbourmaster_console"
FORM_FIELD = "_form"
FORM_HEADER = "x-form-token"
MAX_FIELDS = 500


class Form:
    """The fields of an urlencoded form, in order."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def get(self, name: str, default: str = "") -> str:
        return next((value for key, value in self._pairs if key == name), default)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]

    def below(self, prefix: str) -> dict[str, str]:
        """Fields whose names begin with ``prefix``, without it; empty values left out."""
        return {key.removeprefix(prefix): value for key, value in self._pairs if key.startswith(prefix) and value}


def who_is(request: Request) -> Who:
    """By bearer token, else by session.  Raises ``LoginNeeded``, ``LoginRefused``."""
    access = harbour_of(request).access
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return access.bearer(token)
    cookie = request.cookies.get(COOKIE)
    if not cookie:
        raise LoginNeeded("log in to see this", remedy="run: hm console link")
    return access.session(cookie)


def maybe_who(request: Request) -> Who | None:
    try:
        return who_is(request)
    except HarbourError:
        return None


def viewer(request: Request) -> Who:
    return who_is(request)


def api_viewer(request: Request) -> Who:
    """As ``viewer``; what changes something with a session's cookie carries the form token in a header."""
    who = who_is(request)
    if request.method not in SAFE:
        harbour_of(request).access.check_form(who, request.headers.get(FORM_HEADER, ""))
    return who


def api_operator(who: Annotated[Who, Depends(api_viewer)]) -> Who:
    who.require("operator")
    return who


def api_admin(who: Annotated[Who, Depends(api_viewer)]) -> Who:
    who.require("admin")
    return who


def operator(who: Annotated[Who, Depends(viewer)]) -> Who:
    who.require("operator")
    return who


def admin(who: Annotated[Who, Depends(viewer)]) -> Who:
    who.require("admin")
    return who


async def read_form(request: Request) -> Form:
    """Raises ``FormInvalid``."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise FormInvalid("a form is sent as application/x-www-form-urlencoded", remedy="use the form on the page")
    try:
        raw = await request.body()
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except (ValueError, ClientDisconnect) as e:
        raise FormInvalid("the form cannot be read", remedy="load the page again") from e
    return Form(pairs)


async def checked_form(request: Request, who: Annotated[Who, Depends(viewer)]) -> Form:
    """A form of this session's own pages.  Raises ``FormForged``, ``FormInvalid``."""
    form = await read_form(request)
    harbour_of(request).access.check_form(who, request.headers.get(FORM_HEADER) or form.get(FORM_FIELD))
    return form


Viewer = Annotated[Who, Depends(viewer)]
Operator = Annotated[Who, Depends(operator)]
Admin = Annotated[Who, Depends(admin)]
ApiViewer = Annotated[Who, Depends(api_viewer)]
ApiOperator = Annotated[Who, Depends(api_operator)]
ApiAdmin = Annotated[Who, Depends(api_admin)]
CheckedForm = Annotated[Form, Depends(checked_form)]
