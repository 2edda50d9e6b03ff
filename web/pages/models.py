"""Local models: which are here and loaded, pulling others, talking to one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from harbourmaster.core.errors import HarbourError
from web import deeds
from web.harbour import Harbour
from web.models import parse_history
from web.render import harbour_of, page
from web.requests import CheckedForm, Operator, Viewer

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
    context = {"pulls": harbour.models.pulls(), "messages": [], "model": "", "answer_error": None} | chat
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
def chat(request: Request, who: Operator, form: CheckedForm) -> Response:
    """One turn; the page carries the conversation, the console keeps none."""
    harbour = harbour_of(request)
    model = deeds.required(form.get("model"), "the model")
    messages = parse_history(form.get("history"))
    messages.append({"role": "user", "content": deeds.required(form.get("say").strip(), "what you want to say")})
    error = None
    try:
        messages.append({"role": "assistant", "content": harbour.models.chat(model, messages)})
    except HarbourError as e:
        error = e
    return page(request, who, "models.html", _context(harbour, messages=messages, model=model, answer_error=error))
