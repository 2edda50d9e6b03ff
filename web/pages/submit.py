"""Submitting a server: from a name to a patch that is ready for a pull request, checked on the way."""

from __future__ import annotations

import shlex

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from registry.fields import CATEGORIES
from registry.wizard import Wishes
from web import deeds, submission
from web.errors import FormInvalid
from web.identity import Who
from web.render import harbour_of, page
from web.requests import CheckedForm, Form, Operator, Viewer

router = APIRouter()


@router.get("/submit")
def submit(request: Request, who: Viewer) -> Response:
    settings = harbour_of(request).settings
    context = {"origins": submission.ORIGINS, "categories": CATEGORIES, "drafts": submission.names(settings)}
    return page(request, who, "submit.html", context)


@router.post("/do/submit/begin")
def begin(request: Request, who: Operator, form: CheckedForm) -> Response:
    harbour = harbour_of(request)
    kind, place = form.get("kind"), deeds.required(form.get("place").strip(), "what to look up")
    deeds.note(harbour, who, "draft_begin", origin=kind[:20])
    written = submission.begin(harbour.settings, kind, place, _wishes(form))
    return RedirectResponse(f"/submit/{written.folder.name}", 303)


def _wishes(form: Form) -> Wishes:
    try:
        command = tuple(shlex.split(form.get("command")))
    except ValueError as e:
        raise FormInvalid(f"the command cannot be split into words: {e}", remedy="mind the quotes") from e
    return Wishes(
        name=form.get("name").strip(),
        title=form.get("title").strip(),
        description=" ".join(form.get("description").split()),
        category=form.get("category"),
        tags=tuple(form.get("tags").split()),
        hosts=tuple(form.get("hosts").split()),
        command=command,
    )


@router.get("/submit/{name}")
def draft_page(request: Request, who: Viewer, name: str) -> Response:
    settings = harbour_of(request).settings
    return _shown(request, who, submission.draft(settings, name))


@router.post("/do/submit/save")
def save(request: Request, who: Operator, form: CheckedForm) -> Response:
    """Also asked while a person types; what is wrong is part of the answer, not an error."""
    settings = harbour_of(request).settings
    return _shown(request, who, submission.rewrite(settings, form.get("name"), form.get("document")))


def _shown(request: Request, who: Who, draft: submission.Draft) -> Response:
    found = submission.findings(harbour_of(request).settings, draft.linted)
    return page(request, who, "draft.html", {"draft": draft, "findings": found})


@router.get("/submit/{name}/patch")
def patch(request: Request, who: Viewer, name: str) -> Response:
    text = submission.patch(harbour_of(request).settings, name)
    headers = {"content-disposition": f'attachment; filename="{name}.patch"'}
    return Response(text, headers=headers, media_type="text/x-patch; charset=utf-8")


@router.post("/do/submit/drop")
def drop(request: Request, who: Operator, form: CheckedForm) -> Response:
    harbour = harbour_of(request)
    deeds.note(harbour, who, "draft_drop", server=form.get("name")[:64])
    submission.drop(harbour.settings, form.get("name"))
    return RedirectResponse("/submit", 303)
