"""Coming in by a token or a one-time link, and leaving."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from harbourmaster.core.errors import HarbourError
from web.errors import LoginRefused
from web.identity import SESSION_S, Who
from web.render import harbour_of, page
from web.requests import COOKIE, CheckedForm, Form, Viewer, maybe_who, read_form

router = APIRouter()

MOST_REFUSED = 10  # logins on record one by one, in each minute; the rest are one record, with their number
SPAN_S = 60.0


def safe_next(target: str) -> str:
    """A place on this console: an absolute path, never another host (``//evil``, ``/\\evil``)."""
    ours = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if ours and "\\" not in target else "/"


@router.get("/login")
def login_page(request: Request, next: str = "/") -> Response:
    if maybe_who(request):
        return RedirectResponse(safe_next(next), 303)
    return page(request, None, "login.html", {"next": safe_next(next), "error": None})


@router.post("/login")
def log_in(request: Request, form: Annotated[Form, Depends(read_form)]) -> Response:
    access = harbour_of(request).access
    target = safe_next(form.get("next"))
    try:
        who = access.bearer(form.get("token"))
    except LoginRefused as e:
        _refused(request)
        return page(request, None, "login.html", {"next": target, "error": e}, status=401)
    return _let_in(request, who, target)


@router.get("/enter/{code}")
def enter(request: Request, code: str) -> Response:
    """The link that `hm console run` and `hm console link` print."""
    try:
        who = harbour_of(request).access.link(code)
    except LoginRefused as e:
        _refused(request)
        return page(request, None, "login.html", {"next": "/", "error": e}, status=401)
    return _let_in(request, who, "/")


@router.post("/logout")
def log_out(request: Request, who: Viewer, form: CheckedForm) -> Response:
    harbour_of(request).access.end(who)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE)
    return response


def _let_in(request: Request, who: Who, target: str) -> Response:
    _record(request, "login", who)
    response = RedirectResponse(target, 303)
    cookie = harbour_of(request).access.session_cookie(who)
    response.set_cookie(COOKIE, cookie, max_age=SESSION_S, httponly=True, samesite="strict", path="/")
    return response


class Refused:
    """Logins that were refused.  Anybody can make as many as they like, by an image on any web page even: they must not be
    able to fill the audit.  ``note`` gives how many one record stands for; 0: none now."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._told = self._more = 0
        self._lock = threading.Lock()

    def note(self) -> int:
        with self._lock:
            now, count = self._clock(), 1
            if now - self._since >= SPAN_S:
                self._since, self._told, count = now, 0, 1 + self._more
                self._more = 0
            if self._told >= MOST_REFUSED:
                self._more += 1
                return 0
            self._told += 1
            return count


def _refused(request: Request) -> None:
    state = request.app.state
    if not hasattr(state, "refused"):
        state.refused = Refused()
    if count := state.refused.note():
        _record(request, "login_refused", None, count=count)


def _record(request: Request, event: str, who: Who | None, **facts: int) -> None:
    try:
        harbour_of(request).record({"kind": "console", "event": event, "principal": who.token if who else "", **facts})
    except HarbourError:
        if who is not None:
            raise
