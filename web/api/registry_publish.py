"""Publishing over the registry API, for people with the role admin: the endpoints that change what it lists."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from catalog import publishing
from catalog.service import utc_now
from web.deeds import note
from web.render import harbour_of
from web.requests import ApiAdmin

VERSIONS = ("v0.1", "v0")


class NewStatus(BaseModel):
    model_config = ConfigDict(extra="forbid")

    status: Literal["active", "deprecated", "deleted"]
    statusMessage: str = ""


def routers() -> tuple[APIRouter, ...]:
    found = []
    for version in VERSIONS:
        router = APIRouter(prefix=f"/{version}", tags=[f"MCP registry {version}"])
        router.post("/publish", openapi_extra={"requestBody": _SERVER_JSON})(publish)
        router.patch("/servers/{name:path}/versions/{number}/status")(set_status)
        found.append(router)
    return tuple(found)


_SERVER_JSON = {"content": {"application/json": {"schema": {"type": "object"}}}, "required": True}


async def publish(request: Request, who: ApiAdmin) -> Response:
    """Publish a `server.json`.  It is kept byte for byte, and its version never changes."""
    harbour, document = harbour_of(request), await request.body()

    def work() -> bytes:
        note(harbour, who, "publish")
        return publishing.publish(harbour.store, harbour.settings, document, now=utc_now())

    return Response(await run_in_threadpool(work), media_type="application/json")


def set_status(request: Request, who: ApiAdmin, name: str, number: str, body: NewStatus) -> Response:
    """Deprecate, delete or restore a version that was published here."""
    harbour = harbour_of(request)
    note(harbour, who, "publish_status", server=name, version=number, status=body.status)
    answer = publishing.set_status(
        harbour.store, harbour.settings, name, number, body.status, body.statusMessage, now=utc_now()
    )
    return Response(answer, media_type="application/json")
