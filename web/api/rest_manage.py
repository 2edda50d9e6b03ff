"""REST: what the pages change.  A bearer token needs the role; a session's cookie needs the header ``X-Form-Token`` too."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from catalog.service import add_source, list_sources, remove_source, sync_source
from gateway.profiles.files import ProfileFiles
from gateway.profiles.schema import Profile, ServerRules
from gateway.profiles.view import DEFAULT
from web import connecting, deeds
from web.evidence import signed_evidence
from web.jobs import Job
from web.pages.profiles import all_profiles
from web.render import harbour_of
from web.requests import ApiAdmin, ApiOperator, ApiViewer

router = APIRouter(prefix="/api", tags=["change"])

Json = dict[str, Any]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Values(_Body):
    values: dict[str, str] = Field(description="parameters as text; lists one item to a line")
    profile: str = DEFAULT


class Secret(_Body):
    value: str = Field(min_length=1, json_schema_extra={"writeOnly": True})


class Approval(_Body):
    pin: str = Field(description="of the change that was looked at: GET /api/changes")


class NewProfile(_Body):
    name: str
    title: str = ""
    servers: list[str] = []
    dynamic: bool = False


class NewSource(_Body):
    name: str
    kind: str
    location: str


@router.post("/locked/{name}/enable")
def enable(request: Request, who: ApiOperator, name: str) -> Json:
    return {"enabled": True, "changed": deeds.switch(harbour_of(request), who, name, on=True)}


@router.post("/locked/{name}/disable")
def disable(request: Request, who: ApiOperator, name: str) -> Json:
    return {"enabled": False, "changed": deeds.switch(harbour_of(request), who, name, on=False)}


@router.post("/locked/{name}/build")
def build(request: Request, who: ApiOperator, name: str) -> Json:
    """Begins; GET /api/jobs/{name} says how far it is."""
    return _job(deeds.build(harbour_of(request), who, name))


@router.post("/locked/{name}/adopt")
def adopt(request: Request, who: ApiAdmin, name: str) -> Json:
    """Take a server of another catalog over: begins."""
    return _job(deeds.adopt(harbour_of(request), who, name))


@router.get("/jobs/{name:path}")
def job(request: Request, who: ApiViewer, name: str) -> Json | None:
    """What is being done for a server, or was done last; null when nothing was."""
    found = harbour_of(request).jobs.of(name)
    return _job(found) if found else None


def _job(found: Job) -> Json:
    error = found.error.as_dict() if found.error else None
    return {"server": found.server, "what": found.what, "state": found.state, "stage": found.stage, "error": error}


@router.get("/locked/{name}/evidence")
def evidence(request: Request, who: ApiOperator, name: str) -> Response:
    """All that is verified about it, as one signed in-toto statement: verified anew, signed with this home's key."""
    return Response(signed_evidence(harbour_of(request).settings, name), media_type="application/json")


@router.put("/locked/{name}/config")
def configure(request: Request, who: ApiOperator, name: str, body: Values) -> Json:
    """As `hm profile config`: the values take the place of those that were there."""
    deeds.configure(harbour_of(request), who, body.profile, name, body.values)
    return {"config": deeds.profile_config(harbour_of(request).settings, body.profile, name)}


@router.put("/locked/{name}/secrets/{secret}")
def set_secret(request: Request, who: ApiOperator, name: str, secret: str, body: Secret) -> Json:
    """As `hm secret set`; no answer ever holds the value."""
    deeds.set_secret(harbour_of(request), who, name, secret, body.value)
    return {"set": True}


@router.delete("/locked/{name}/secrets/{secret}")
def forget_secret(request: Request, who: ApiOperator, name: str, secret: str) -> Json:
    deeds.forget_secret(harbour_of(request), who, name, secret)
    return {"set": False}


@router.delete("/sandboxes/{identity}")
def stop_sandbox(request: Request, who: ApiOperator, identity: str) -> Json:
    deeds.note(harbour_of(request), who, "sandbox_stop", sandbox=identity[:64])
    return {"stopped": harbour_of(request).docks.stop(identity)}


@router.post("/changes/{name}/approve")
def approve(request: Request, who: ApiAdmin, name: str, body: Approval) -> Json:
    """As `hm lock approve`, of exactly the change with that pin."""
    deeds.note(harbour_of(request), who, "approve", server=name, pin=body.pin)
    harbour_of(request).approve(name, body.pin)
    return {"approved": name}


@router.get("/profiles")
def profiles(request: Request, who: ApiViewer) -> list[Json]:
    """As `hm profile ls --json`."""
    rows = all_profiles(harbour_of(request).settings)
    return [{**row, "error": row["error"].as_dict()} if "error" in row else row for row in rows]


@router.post("/profiles")
def create_profile(request: Request, who: ApiOperator, body: NewProfile) -> Json:
    settings = harbour_of(request).settings
    for server in body.servers:
        deeds.locked_server(settings, server)
    rules: dict[str, ServerRules | None] = dict.fromkeys(body.servers)
    deeds.note(harbour_of(request), who, "profile_create", profile=body.name)
    profile = Profile(title=body.title or None, dynamic=body.dynamic, servers=rules)
    ProfileFiles(settings.profiles_dir).create(body.name, profile)
    return {"created": body.name}


@router.delete("/profiles/{name}")
def remove_profile(request: Request, who: ApiOperator, name: str) -> Json:
    deeds.note(harbour_of(request), who, "profile_remove", profile=name)
    ProfileFiles(harbour_of(request).settings.profiles_dir).remove(name)
    return {"removed": name}


@router.get("/sources")
def sources(request: Request, who: ApiViewer) -> list[Json]:
    """As `hm catalog source ls --json`."""
    keys = ("name", "kind", "location", "synced_at", "last_error")
    return [{k: getattr(s, k) for k in keys} | {"entries": n} for s, n in list_sources(harbour_of(request).store)]


@router.post("/sources")
def new_source(request: Request, who: ApiAdmin, body: NewSource) -> Json:
    harbour = harbour_of(request)
    deeds.note(harbour, who, "source_add", source=body.name, source_kind=body.kind)
    add_source(harbour.store, body.name, body.kind, body.location)
    return sync_source(harbour.store, harbour.settings, body.name).as_dict()


@router.post("/sources/{name}/sync")
def sync(request: Request, who: ApiOperator, name: str) -> Json:
    harbour = harbour_of(request)
    deeds.note(harbour, who, "source_sync", source=name)
    return sync_source(harbour.store, harbour.settings, name).as_dict()


@router.delete("/sources/{name}")
def drop_source(request: Request, who: ApiAdmin, name: str) -> Json:
    deeds.note(harbour_of(request), who, "source_remove", source=name)
    remove_source(harbour_of(request).store, name)
    return {"removed": name}


@router.post("/clients/{name}/connect")
def connect(request: Request, who: ApiOperator, name: str) -> Json:
    """As `hm client connect NAME`."""
    harbour = harbour_of(request)
    deeds.note(harbour, who, "connect", client=name)
    client, change = connecting.connect_client(harbour.settings, harbour.places, name)
    return {"path": str(change.path), "changed": change.changed, "now": client.reload}


class Model(_Body):
    model: str


class Message(_Body):
    role: Literal["user", "assistant"]
    content: str


class Chat(_Body):
    model: str
    messages: list[Message] = Field(max_length=200)


@router.post("/models/pull")
def pull_model(request: Request, who: ApiOperator, body: Model) -> Json:
    """Begins; GET /api/models/pulls says how far it is."""
    harbour = harbour_of(request)
    deeds.note(harbour, who, "model_pull", model=body.model[:500])
    harbour.models.overview()
    return dataclasses.asdict(harbour.models.pull(body.model))


@router.post("/models/load")
def load_model(request: Request, who: ApiOperator, body: Model) -> Json:
    harbour_of(request).models.load(body.model)
    return {"loaded": body.model}


@router.post("/models/unload")
def unload_model(request: Request, who: ApiOperator, body: Model) -> Json:
    harbour_of(request).models.unload(body.model)
    return {"unloaded": body.model}


@router.post("/models/remove")
def remove_model(request: Request, who: ApiOperator, body: Model) -> Json:
    harbour = harbour_of(request)
    deeds.note(harbour, who, "model_remove", model=body.model[:500])
    harbour.models.remove(body.model)
    return {"removed": body.model}


@router.post("/models/chat")
def chat(request: Request, who: ApiOperator, body: Chat) -> Json:
    """One turn, whole; the runner itself streams (docs/models.md)."""
    messages = [{"role": m.role, "content": m.content} for m in body.messages]
    return {"answer": harbour_of(request).models.chat(body.model, messages)}
