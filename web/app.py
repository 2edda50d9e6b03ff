"""The application: pages, REST and the registry API under one guard; every error the same as on the command line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from harbourmaster import __version__
from harbourmaster.core.errors import (
    ConfigError,
    EngineError,
    HarbourError,
    IntegrityError,
    LimitError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    UsageError,
)
from harbourmaster.core.redaction import IN_USE
from web.api import REGISTRY, REST
from web.errors import Fault, FormInvalid, HostWrong, LoginNeeded, LoginRefused, PageUnknown, Stale
from web.guard import Guard
from web.harbour import Harbour
from web.pages import PAGES
from web.render import HERE, is_htmx, page
from web.requests import maybe_who
from web.warm import warm

log = logging.getLogger("web")

_STATUS: tuple[tuple[type[HarbourError], int], ...] = (
    (LoginNeeded, 401),
    (LoginRefused, 401),
    (HostWrong, 421),
    (Stale, 409),
    (UsageError, 400),
    (NotFoundError, 404),
    (RefusedError, 403),
    (UnavailableError, 503),
    (EngineError, 503),
    (LimitError, 429),
    (IntegrityError, 409),
    (ConfigError, 409),
)
_JSON_PATHS = ("/api/", "/v0/", "/v0.1/")


def status_of(error: HarbourError) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def create_app(harbour: Harbour, *, hosts: Iterable[str] = ()) -> ASGIApp:
    """``hosts``: names beside loopback by which the console may be called."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        harbour.stock()
        warm(harbour)
        yield

    app = FastAPI(
        title="Harbourmaster",
        version=__version__,
        description="Everything that the console does. Send a console token as `Authorization: Bearer ...`.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )
    app.state.harbour = harbour
    for router in PAGES:
        app.include_router(router, include_in_schema=False)
    for router in (*REST, *REGISTRY):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.add_exception_handler(HarbourError, _on_error)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_fault)

    def refuse(scope: Scope, error: HarbourError) -> Response:
        return answer(Request({**scope, "app": app}), error)

    return Guard(app, refuse=refuse, hosts=hosts)


def answer(request: Request, error: HarbourError) -> Response:
    """``error`` in the form that was asked for: JSON, a piece of a page, or a page."""
    status, path = status_of(error), request.url.path
    if path.startswith(_JSON_PATHS):
        body: dict[str, Any] = {"error": error.as_dict()}
        headers = {"www-authenticate": 'Bearer realm="harbourmaster"'} if status == 401 else None
        text = IN_USE.redact(orjson.dumps(body, default=str).decode())
        return Response(text, status, headers, "application/json")
    if isinstance(error, LoginNeeded) and path != "/":
        return _to_login(request)
    if isinstance(error, LoginNeeded):
        return RedirectResponse("/login", 303)
    context = {"error": error, "status": status}
    if is_htmx(request):
        response = page(request, None, "error_piece.html", context, status=status)
        response.headers.update({"HX-Retarget": "#notices", "HX-Reswap": "innerHTML", "HX-Reselect": ".notice"})
        return response
    return page(request, maybe_who(request), "error.html", context, status=status)


def _to_login(request: Request) -> Response:
    if is_htmx(request):
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    back = f"?next={quote(here)}" if request.method == "GET" else ""
    return RedirectResponse(f"/login{back}", 303)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HarbourError)
    return answer(request, error)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return answer(request, FormInvalid(f"{request.method} is not for {request.url.path}", remedy="use the page"))
    return answer(request, PageUnknown(f"there is no page {request.url.path}", remedy="start from the catalog: /"))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(p) for p in first["loc"])
    return answer(request, FormInvalid(f"{place}: {first['msg']}", remedy="see /api/openapi.json"))


async def _on_fault(request: Request, error: Exception) -> Response:
    log.error("a fault answering %s %s", request.method, request.url.path, exc_info=error)
    fault = Fault(f"a fault of the console: {type(error).__name__}", remedy="the console's log says more; report it")
    return answer(request, fault)
