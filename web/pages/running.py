"""What runs now: the gateway, sandboxes, calls as they happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from harbourmaster.core.audit_search import ends, matcher, search, written_after
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.redaction import IN_USE
from web import deeds
from web.harbour import Harbour
from web.render import ENVIRONMENT, harbour_of, page
from web.requests import CheckedForm, Operator, Viewer, maybe_who

router = APIRouter()

SHOWN_CALLS = 50
LOOK_S = 0.5  # how often the trail is looked at for a listener, as `hm audit tail --follow` does
ALIVE_EVERY = 30  # looks without news before a comment is sent, which tells us of a listener that left
MAX_LISTENERS = 16  # streams at a time; each is a look at a file twice a second

DONE = {
    "stopped": "The sandbox is stopped and removed.",
    "allowed": "The call goes on.",
    "refused": "The call was refused.",
}
CALLS = matcher(["kind=call"])


@router.get("/running")
def running(request: Request, who: Viewer, done: str = "") -> Response:
    harbour = harbour_of(request)
    context = {
        "report": harbour.report(),
        "calls": list(reversed(search(harbour.settings.audit_dir, CALLS, SHOWN_CALLS))),
        "underway": harbour.underway(),
        "waiting": deeds.waiting(harbour, who),
        "notice": DONE.get(done, ""),
    }
    return page(request, who, "running.html", context | docks(harbour))


@router.get("/running/sandboxes")
def sandboxes(request: Request, who: Viewer) -> Response:
    return page(request, who, "sandboxes.html", docks(harbour_of(request)))


@router.get("/running/waiting")
def waiting(request: Request, who: Viewer) -> Response:
    return page(request, who, "waiting.html", {"waiting": deeds.waiting(harbour_of(request), who)})


@router.post("/do/call/answer")
def answer_call(request: Request, who: Operator, form: CheckedForm) -> Response:
    yes = form.get("answer") == "yes"
    deeds.answer_call(harbour_of(request), who, form.get("id"), yes=yes)
    return RedirectResponse(f"/running?done={'allowed' if yes else 'refused'}", 303)


def docks(harbour: Harbour) -> dict[str, Any]:
    """A refusal of the engine is shown where its sandboxes would be; the rest of the page is as useful without."""
    try:
        return {"sandboxes": harbour.docks.sandboxes(), "engine_error": None}
    except HarbourError as e:
        return {"sandboxes": [], "engine_error": e}


@router.post("/do/sandbox/stop")
def stop(request: Request, who: Operator, form: CheckedForm) -> Response:
    harbour = harbour_of(request)
    identity = deeds.required(form.get("id"), "the sandbox")
    deeds.note(harbour, who, "sandbox_stop", sandbox=identity[:64])
    harbour.docks.stop(identity)
    return RedirectResponse("/running?done=stopped", 303)


@router.get("/events/calls")
async def calls(request: Request, who: Viewer) -> Response:
    """Server-sent events (HTML standard, 9.2): each is one row of the table of calls."""
    state = request.app.state
    if getattr(state, "listeners", 0) >= MAX_LISTENERS:
        return Response(status_code=204)  # tells an EventSource to stop asking
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_rows(state, harbour_of(request), request), 200, headers, "text/event-stream")


async def _rows(state: Any, harbour: Harbour, request: Request) -> AsyncIterator[str]:
    state.listeners = getattr(state, "listeners", 0) + 1
    row = ENVIRONMENT.get_template("call_row.html")
    directory = harbour.settings.audit_dir
    places = await asyncio.to_thread(ends, directory)
    quiet = looks = 0
    try:
        yield ": listening\n\n"
        while True:
            looks += 1
            if looks % ALIVE_EVERY == 0 and await asyncio.to_thread(maybe_who, request) is None:
                return  # logged out, or the token was revoked
            found = await asyncio.to_thread(lambda: [r for r in written_after(directory, places) if CALLS(r)])
            for record in found:
                html = IN_USE.redact(row.render(call=record)).replace("\n", " ")
                yield f"data: {html}\n\n"
            quiet = 0 if found else quiet + 1
            if quiet >= ALIVE_EVERY:
                quiet = 0
                yield ": still here\n\n"
            await asyncio.sleep(LOOK_S)
    finally:
        state.listeners -= 1
