"""Pages for what a server was let near: remote servers and their logins; folders of this machine."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from web import deeds, reach
from web.logins import PATH
from web.render import harbour_of, page
from web.requests import Admin, CheckedForm, Operator, Viewer

router = APIRouter()

DONE = {
    "given": "The server has it from its next sandbox on.",
    "taken": "The server has it no longer; sandboxes that run now keep it until they end.",
    "out": "Logged out: the token is forgotten here, and revoked where its server can.",
}


@router.get("/remote")
def remote_page(request: Request, who: Viewer, done: str = "") -> Response:
    harbour = harbour_of(request)
    context = {"remotes": reach.remotes(harbour), "notice": DONE.get(done, "")}
    return page(request, who, "remote.html", context)


@router.get(PATH)
def came_back(request: Request) -> Response:
    """From the authorization server, by way of the person's browser; see ``web.logins``."""
    login = harbour_of(request).logins.came_back(request.url.query)
    return page(request, None, "came_back.html", {"login": login})


@router.get("/remote/visit/{name}")
def visit(request: Request, who: Viewer, name: str) -> Response:
    """How far a login is, for a page that waits; then that page is another one."""
    login = harbour_of(request).logins.of(name)
    response = page(request, who, "visit.html", {"login": login, "visited": name})
    if login is None or not login.active:
        response.headers["HX-Refresh"] = "true"
    return response


@router.post("/do/remote/login")
def login(request: Request, who: Operator, form: CheckedForm) -> Response:
    name = deeds.required(form.get("name"), "the server's name")
    reach.begin_login(harbour_of(request), who, name, str(request.base_url))
    return RedirectResponse(f"/remote#remote-{quote(name)}", 303)


@router.post("/do/remote/logout")
def logout(request: Request, who: Operator, form: CheckedForm) -> Response:
    name = deeds.required(form.get("name"), "the server's name")
    reach.log_out(harbour_of(request), who, name)
    return RedirectResponse("/remote?done=out", 303)


@router.post("/do/remote/connect")
def connect(request: Request, who: Admin, form: CheckedForm) -> Response:
    name = deeds.required(form.get("name"), "the server's name")
    reach.begin_connect(harbour_of(request), who, name, str(request.base_url))
    return RedirectResponse(f"/servers/{quote(name, safe='/')}", 303)


@router.get("/folders")
def folders_page(request: Request, who: Viewer, done: str = "", server: str = "") -> Response:
    settings = harbour_of(request).settings
    context = {
        "folders": reach.folders(settings),
        "servers": reach.can_have_folders(settings),
        "chosen": server,
        "notice": DONE.get(done, ""),
    }
    return page(request, who, "folders.html", context)


@router.post("/do/folder/give")
def give(request: Request, who: Admin, form: CheckedForm) -> Response:
    name, path = (
        deeds.required(form.get("server"), "the server"),
        deeds.required(form.get("path").strip(), "the folder"),
    )
    inside, write = form.get("inside").strip(), form.get("write") == "yes"
    reach.give_folder(harbour_of(request), who, name, path, inside, write=write)
    return RedirectResponse("/folders?done=given", 303)


@router.post("/do/folder/take")
def take(request: Request, who: Admin, form: CheckedForm) -> Response:
    name, path = deeds.required(form.get("server"), "the server"), deeds.required(form.get("path"), "the folder")
    reach.take_folder(harbour_of(request), who, name, path)
    return RedirectResponse("/folders?done=taken", 303)
