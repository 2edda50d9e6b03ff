"""REST: what the pages show.  Answers are those of the command line's ``--json``."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request

from catalog.cli_output import page_dict
from gateway.lock import read_lock
from harbourmaster.core import audit
from harbourmaster.core.audit_search import matcher, search
from web import connecting, deeds
from web.pages.audit import find
from web.pages.catalog import asked_for
from web.render import harbour_of
from web.requests import ApiViewer
from web.ship import ship

router = APIRouter(prefix="/api", tags=["look"])

Json = dict[str, Any]


@router.get("/servers")
def servers(
    request: Request,
    who: ApiViewer,
    q: Annotated[str, Query(description="what it should do, or its name")] = "",
    sort: Annotated[str, Query(description="relevance, name, updated or tools")] = "relevance",
    page: Annotated[int, Query(ge=1)] = 1,
    tier: Annotated[list[str] | None, Query(description="built, community")] = None,
    category: Annotated[list[str] | None, Query()] = None,
    evidence: Annotated[list[str] | None, Query(description="signed, sbom, provenance, ...")] = None,
    permission: Annotated[list[str] | None, Query(description="no-network, no-secrets, read-only")] = None,
) -> Json:
    """Search the catalog, with the counts of each filter.  Further filters are named as on the page."""
    return page_dict(harbour_of(request).searcher.search(asked_for(request.query_params)))


@router.get("/locked")
def locked(request: Request, who: ApiViewer) -> list[Json]:
    """The servers that are built and locked, as `hm server inspect --json` gives each."""
    lock = read_lock(harbour_of(request).settings.lock_file)
    return [dataclasses.asdict(server) for _, server in sorted(lock.items())]


@router.get("/servers/{name:path}/packages")
def packages(request: Request, who: ApiViewer, name: str) -> list[Json]:
    """What is inside, by its SBOM."""
    return list(ship(harbour_of(request), name)["cargo"])


@router.get("/servers/{name:path}")
def server(request: Request, who: ApiViewer, name: str) -> Json:
    """Everything that is known of one server; of its secrets, whether they are set."""
    found = ship(harbour_of(request), name)
    secrets = [{**s, "held": s["held"] is not None} for s in found["secrets"]]
    state = found["locked"]
    shown: Json = found["server"]
    return shown | {
        "secrets": secrets,
        "parameters": found["parameters"],
        "locked": state is not None,
        "enabled": state is not None and state.enabled,
    }


@router.get("/status")
def status(request: Request, who: ApiViewer) -> Json:
    """As `hm status --json`."""
    report: Json = harbour_of(request).report()
    return report


@router.get("/health")
def health(request: Request, who: ApiViewer) -> list[Json]:
    """As `hm doctor --json`."""
    return harbour_of(request).examine()


@router.get("/sandboxes")
def sandboxes(request: Request, who: ApiViewer) -> list[Json]:
    """As `hm sandbox ps --json`, with what each uses (bytes, seconds)."""
    return harbour_of(request).docks.sandboxes()


@router.get("/underway")
def underway(request: Request, who: ApiViewer) -> Json | None:
    """The gateway's sessions, leases and pool; null where no gateway answers."""
    return harbour_of(request).underway()


@router.get("/calls")
def calls(request: Request, who: ApiViewer, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> list[Json]:
    """The newest calls on record, oldest first."""
    return search(harbour_of(request).settings.audit_dir, matcher(["kind=call"]), limit)


@router.get("/waiting")
def waiting(request: Request, who: ApiViewer) -> list[Json]:
    """Calls that wait for a person, as `hm approve ls --json`; arguments for operators alone."""
    return deeds.waiting(harbour_of(request), who)


@router.get("/changes")
def changes(request: Request, who: ApiViewer) -> list[Json]:
    """Servers that say something else than was locked, and what."""
    return [dataclasses.asdict(held) for held in harbour_of(request).held()]


@router.get("/audit")
def audit_records(request: Request, who: ApiViewer, q: str = "", kind: str = "", since: str = "") -> list[Json]:
    """As `hm audit search --json`, oldest first."""
    return find(harbour_of(request).settings.audit_dir, q, kind, since)


@router.get("/audit/verify")
def audit_verify(request: Request, who: ApiViewer) -> Json:
    """As `hm audit verify --json`; 409 names the first place that does not fit."""
    return audit.verify(harbour_of(request).settings.audit_dir).as_dict()


@router.get("/models")
def models(request: Request, who: ApiViewer) -> Json:
    """What the runner has and has loaded; 503 where none answers."""
    return harbour_of(request).models.overview()


@router.get("/models/pulls")
def pulls(request: Request, who: ApiViewer) -> list[Json]:
    """Pulls that go on, and the last that ended."""
    return [dataclasses.asdict(pull) for pull in harbour_of(request).models.pulls()]


@router.get("/clients")
def clients(request: Request, who: ApiViewer) -> list[Json]:
    """Clients that can be connected, with the settings each needs."""
    harbour = harbour_of(request)
    found = connecting.connections(harbour.settings, harbour.places, with_token=who.may("operator"))
    return [
        {
            "name": c.client.name,
            "title": c.client.title,
            "installed": c.installed,
            "connected": c.connected,
            "file": c.file,
            "settings": c.snippet,
            "link": c.link,
        }
        for c in found
    ]
