"""The read endpoints of the MCP registry API v0.1, for clients and other registries; v0 answers the same.

Source: docs/reference/api/openapi.yaml of github.com/modelcontextprotocol/registry (2025-12-01).  They need no login, as
everywhere: they say what the catalog holds, and nothing of this machine.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from catalog.registry_api import DEFAULT_LIMIT, ListRequest, get_version, list_servers, list_versions
from web.render import harbour_of

VERSIONS = ("v0.1", "v0")

Name = str
Deleted = Annotated[bool, Query(description="also servers that were deleted")]


def routers() -> tuple[APIRouter, ...]:
    found = []
    for version in VERSIONS:
        router = APIRouter(prefix=f"/{version}", tags=[f"MCP registry {version}"])
        router.get("/servers")(servers)
        router.get("/servers/{name:path}/versions/{number}")(one_version)
        router.get("/servers/{name:path}/versions")(versions)
        found.append(router)
    return tuple(found)


def servers(
    request: Request,
    cursor: str = "",
    limit: int = DEFAULT_LIMIT,
    search: str = "",
    updated_since: str = "",
    version: str = "",
    include_deleted: Deleted = False,
) -> Response:
    """One page of servers, by name and version."""
    asked = ListRequest(cursor, limit, search, updated_since, version, include_deleted)
    with harbour_of(request).store.reading() as session:
        return _json(list_servers(session, asked))


def versions(request: Request, name: Name, include_deleted: Deleted = False) -> Response:
    """All versions of a server, the newest first."""
    with harbour_of(request).store.reading() as session:
        return _json(list_versions(session, name, include_deleted=include_deleted))


def one_version(request: Request, name: Name, number: str, include_deleted: Deleted = False) -> Response:
    """One version, or `latest`."""
    with harbour_of(request).store.reading() as session:
        return _json(get_version(session, name, number, include_deleted=include_deleted))


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
