"""Local models: which are here and loaded, pulling others, talking to one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from gateway.lock import read_lock
from gateway.profiles.shown import load as load_profile
from gateway.profiles.shown import selected, tools
from gateway.profiles.view import DEFAULT
from gateway.tokens import TokenStore
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.redaction import IN_USE
from harbourmaster.core.settings import Settings
from web import connecting, deeds
from web.errors import FormInvalid
from web.harbour import Harbour
from web.identity import Who
from web.models import parse_history
from web.render import harbour_of, page
from web.requests import CheckedForm, Form, Operator, Viewer
from web.talk import Event, Wish, talk

router = APIRouter()

DONE = {"loaded": "The model is loaded.", "unloaded": "The model is out of memory.", "removed": "The model is gone."}


@router.get("/models")
def models(request: Request, who: Viewer, done: str = "") -> Response:
    harbour = harbour_of(request)
    return page(request, who, "models.html", _context(harbour) | {"notice": DONE.get(done, "")})


@router.get("/models/pulls")
def pulls(request: Request, who: Viewer) -> Response:
    return page(request, who, "pulls.html", {"pulls": harbour_of(request).models.pulls()})


def _context(harbour: Harbour, **chat: Any) -> dict[str, Any]:
    lock = read_lock(harbour.settings.lock_file)
    nothing: dict[str, Any] = {"messages": [], "history": [], "steps": [], "model": "", "server": "", "act": False}
    served = [name for name, server in sorted(lock.items()) if server.enabled and server.listing.get("tools")]
    context = nothing | {"pulls": harbour.models.pulls(), "served": served} | chat
    try:
        return context | {"runner": harbour.models.overview(), "runner_error": None}
    except HarbourError as e:
        return context | {"runner": None, "runner_error": e}


@router.post("/do/model/pull")
def pull(request: Request, who: Operator, form: CheckedForm) -> Response:
    harbour = harbour_of(request)
    name = deeds.required(form.get("model"), "the model's name")
    deeds.note(harbour, who, "model_pull", model=name[:500])
    harbour.models.overview()  # says at once when no runner is there to do it
    harbour.models.pull(name)
    return RedirectResponse("/models", 303)


@router.post("/do/model/load")
def load(request: Request, who: Operator, form: CheckedForm) -> Response:
    harbour_of(request).models.load(deeds.required(form.get("model"), "the model"))
    return RedirectResponse("/models?done=loaded", 303)


@router.post("/do/model/unload")
def unload(request: Request, who: Operator, form: CheckedForm) -> Response:
    harbour_of(request).models.unload(deeds.required(form.get("model"), "the model"))
    return RedirectResponse("/models?done=unloaded", 303)


@router.post("/do/model/remove")
def remove(request: Request, who: Operator, form: CheckedForm) -> Response:
    harbour = harbour_of(request)
    name = deeds.required(form.get("model"), "the model")
    deeds.note(harbour, who, "model_remove", model=name[:500])
    harbour.models.remove(name)
    return RedirectResponse("/models?done=removed", 303)


@router.post("/do/chat")
async def chat(request: Request, who: Operator, form: CheckedForm) -> Response:
    """One turn, whole; the page carries the conversation, the console keeps none."""
    harbour = harbour_of(request)
    wish = await asyncio.to_thread(_wish, harbour, who, form)
    steps = [event async for event in talk(wish)]
    last = steps[-1] if steps else {"kind": "end", "history": wish.messages, "line": ""}
    messages = last["history"][:-1] if last["kind"] == "end" else wish.messages
    shown = {"messages": messages, "history": last.get("history", wish.messages), "steps": _joined(steps)}
    chosen = {"model": wish.model, "server": form.get("server"), "act": wish.act}
    context = await asyncio.to_thread(_context, harbour, **shown, **chosen)
    return page(request, who, "models.html", context)


@router.post("/events/chat")
async def chat_events(request: Request, who: Operator, form: CheckedForm) -> Response:
    """The same turn as it happens: a line of JSON for each event (web/talk.py)."""
    wish = await asyncio.to_thread(_wish, harbour_of(request), who, form)
    return StreamingResponse(_lines(wish), media_type="application/x-ndjson")


async def _lines(wish: Wish) -> AsyncIterator[bytes]:
    async for event in talk(wish):
        yield IN_USE.redact(orjson.dumps(event).decode()).encode() + b"\n"


def _wish(harbour: Harbour, who: Who, form: Form) -> Wish:
    model = deeds.required(form.get("model"), "the model")
    messages = parse_history(form.get("history"))
    messages.append({"role": "user", "content": deeds.required(form.get("say").strip(), "what you want to say")})
    server, settings = form.get("server"), harbour.settings
    if not server:
        return Wish(model, messages, runner_url=harbour.models.url)
    act = form.get("act") == "on"
    deeds.note(harbour, who, "talk", model=model[:500], server=server[:64], act=act)
    return Wish(
        model,
        messages,
        tools=tools_of(settings, server),
        act=act,
        runner_url=harbour.models.url,
        gateway_url=connecting.endpoint(settings, harbour.places).url,
        gateway_token=TokenStore(settings.tokens_file).default(),
    )


def tools_of(settings: Settings, server: str) -> tuple[str, ...]:
    """The public names of ``server``'s tools in the profile default.  Raises ``ServerUnknown``."""
    locked = deeds.locked_server(settings, server)
    found = tools(selected(DEFAULT, load_profile(settings, DEFAULT), read_lock(settings.lock_file)))
    names = tuple(t.public for t in found if t.server == locked.name)
    if not names:
        raise FormInvalid(f"{server} serves no tools", remedy="enable it, and try again")
    return names


def _joined(steps: list[Event]) -> list[Event]:
    """Pieces of one saying put together."""
    found: list[Event] = []
    for event in steps:
        if event["kind"] == "said" and found and found[-1]["kind"] == "said":
            found[-1] = {**event, "text": found[-1]["text"] + event["text"]}
        else:
            found.append(event)
    return found
