"""REST: remote servers and logins to them, folders of this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from web import deeds, reach
from web.identity import Who
from web.logins import Login
from web.render import harbour_of
from web.requests import ApiAdmin, ApiOperator, ApiViewer

router = APIRouter(prefix="/api", tags=["reach"])


class Place(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=1, description="a folder or file of this machine")
    inside: str = Field(default="", description="where the server sees it; the same path by default")
    write: bool = False


@router.get("/remote")
def remotes(request: Request, who: ApiViewer) -> list[dict[str, Any]]:
    """Remote servers of the lock, and whether somebody is logged in to them.  No token is in it; `url`, which lets its reader
    log in as themselves, is for operators."""
    return [row | {"going_on": _login(row["going_on"], who)} for row in reach.remotes(harbour_of(request))]


@router.post("/remote/{name}/login")
def login(request: Request, who: ApiOperator, name: str) -> dict[str, Any]:
    """Begin a login; a person opens `url` in a browser on the console's machine.  `GET /api/remote` says what became of it."""
    found = _login(reach.begin_login(harbour_of(request), who, name, str(request.base_url)), who)
    assert found is not None
    return found


@router.post("/remote/{name}/connect")
def connect(request: Request, who: ApiAdmin, name: str) -> dict[str, Any]:
    """Connect to a remote server of the catalog, list and lock it, with a login where it asks for one."""
    found = _login(reach.begin_connect(harbour_of(request), who, name, str(request.base_url)), who)
    assert found is not None
    return found


@router.delete("/remote/{name}/login")
def logout(request: Request, who: ApiOperator, name: str) -> dict[str, Any]:
    """Forget the token, and revoke it where that can be asked for."""
    return {"done": reach.log_out(harbour_of(request), who, name)}


@router.get("/folders")
def folders(request: Request, who: ApiViewer) -> dict[str, list[dict[str, Any]]]:
    """By server, what of this machine it asks for or was given."""
    found = reach.folders(harbour_of(request).settings)
    return {name: [asdict(folder) for folder in those] for name, those in found.items()}


@router.post("/locked/{name}/folders")
def give(request: Request, who: ApiAdmin, name: str, body: Place) -> dict[str, Any]:
    """As `hm server enable NAME --allow`."""
    return {"done": reach.give_folder(harbour_of(request), who, name, body.path, body.inside, write=body.write)}


@router.delete("/locked/{name}/folders")
def take(request: Request, who: ApiAdmin, name: str, path: str) -> dict[str, Any]:
    """As `hm server enable NAME --revoke`."""
    return {"done": reach.take_folder(harbour_of(request), who, name, deeds.required(path, "the folder"))}


def _login(login: Login | None, who: Who) -> dict[str, Any] | None:
    if login is None:
        return None
    error = login.error.as_dict() if login.error else None
    url = login.url if login.active and who.may("operator") else ""
    return {"server": login.server, "state": login.state, "url": url, "error": error}
