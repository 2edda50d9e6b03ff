"""Profiles: which servers a client sees, at an address of its own."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.lock import read_lock
from gateway.profiles.errors import ProfileInvalid
from gateway.profiles.files import ProfileFiles
from gateway.profiles.schema import EVERYTHING, Profile, ServerRules
from gateway.profiles.shown import selected, summary
from gateway.profiles.view import DEFAULT
from harbourmaster.core.settings import Settings
from web import deeds
from web.render import harbour_of, page
from web.requests import CheckedForm, Operator, Viewer

router = APIRouter()


@router.get("/profiles")
def profiles(request: Request, who: Viewer, done: str = "") -> Response:
    settings = harbour_of(request).settings
    notice = {"created": "The profile is served at once.", "removed": "The profile is gone."}.get(done, "")
    context = {"profiles": all_profiles(settings), "servers": sorted(read_lock(settings.lock_file)), "notice": notice}
    return page(request, who, "profiles.html", context)


def all_profiles(settings: Settings) -> list[dict[str, Any]]:
    """As `hm profile ls --json`."""
    lock, rows = read_lock(settings.lock_file), []
    known: dict[str, Profile | ProfileInvalid] = {DEFAULT: EVERYTHING}
    for name, profile in sorted((known | ProfileFiles(settings.profiles_dir).load_all()).items()):
        if isinstance(profile, ProfileInvalid):
            rows.append({"name": name, "error": profile})
        else:
            rows.append(summary(name, profile, selected(name, profile, lock)))
    return rows


@router.post("/do/profile/create")
def create(request: Request, who: Operator, form: CheckedForm) -> Response:
    harbour = harbour_of(request)
    name = deeds.required(form.get("name"), "the profile's name")
    for server in form.all("server"):
        deeds.locked_server(harbour.settings, server)
    rules: dict[str, ServerRules | None] = dict.fromkeys(form.all("server"))
    title = form.get("title").strip()
    profile = Profile(title=title or None, dynamic=form.get("dynamic") == "on", servers=rules)
    deeds.note(harbour, who, "profile_create", profile=name)
    ProfileFiles(harbour.settings.profiles_dir).create(name, profile)
    return RedirectResponse("/profiles?done=created", 303)


@router.post("/do/profile/remove")
def remove(request: Request, who: Operator, form: CheckedForm) -> Response:
    harbour = harbour_of(request)
    name = deeds.required(form.get("name"), "the profile's name")
    deeds.note(harbour, who, "profile_remove", profile=name)
    ProfileFiles(harbour.settings.profiles_dir).remove(name)
    return RedirectResponse("/profiles?done=removed", 303)
