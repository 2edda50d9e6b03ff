"""REST: drafts of entries, on their way to a pull request."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from registry.wizard import Wishes
from web import deeds, submission
from web.render import harbour_of
from web.requests import ApiOperator, ApiViewer

router = APIRouter(prefix="/api/drafts", tags=["submit"])

Json = dict[str, Any]


class NewDraft(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: str = Field(description="pypi, npm, git, image or url")
    place: str = Field(min_length=1, description="its name or address")
    name: str = ""
    title: str = ""
    description: str = ""
    category: str = ""
    tags: list[str] = []
    hosts: list[str] = []
    command: list[str] = []


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    document: str = Field(description="the whole server.yaml")


@router.get("")
def drafts(request: Request, who: ApiViewer) -> list[str]:
    return submission.names(harbour_of(request).settings)


@router.post("")
def begin(request: Request, who: ApiOperator, body: NewDraft) -> Json:
    """As `hm registry new --json`, into a folder of drafts; takes some seconds."""
    harbour = harbour_of(request)
    deeds.note(harbour, who, "draft_begin", origin=body.kind[:20])
    wishes = Wishes(
        body.name,
        body.title,
        body.description,
        body.category,
        tags=tuple(body.tags),
        hosts=tuple(body.hosts),
        command=tuple(body.command),
    )
    return submission.begin(harbour.settings, body.kind, body.place, wishes).as_dict()


@router.get("/{name}")
def draft(request: Request, who: ApiViewer, name: str) -> Json:
    """The document, the folder's files, and what lint says."""
    return _shown(request, submission.draft(harbour_of(request).settings, name))


@router.put("/{name}")
def rewrite(request: Request, who: ApiOperator, name: str, body: Document) -> Json:
    """Kept, right or wrong; the answer says which."""
    return _shown(request, submission.rewrite(harbour_of(request).settings, name, body.document))


@router.get("/{name}/patch")
def patch(request: Request, who: ApiViewer, name: str) -> Response:
    """For `git apply`."""
    return Response(submission.patch(harbour_of(request).settings, name), media_type="text/x-patch; charset=utf-8")


@router.delete("/{name}")
def drop(request: Request, who: ApiOperator, name: str) -> Json:
    deeds.note(harbour_of(request), who, "draft_drop", server=name[:64])
    submission.drop(harbour_of(request).settings, name)
    return {"dropped": name}


def _shown(request: Request, found: submission.Draft) -> Json:
    findings = submission.findings(harbour_of(request).settings, found.linted)
    return {"name": found.name, "document": found.document, "files": list(found.files), "findings": findings}
