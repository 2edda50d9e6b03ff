"""One turn of a talk with a local model, with a server's tools where a person says so; told as it happens.

Events, in order: ``{"kind": "said", "text"}``, ``{"kind": "call", "tool", "arguments"}``, ``{"kind": "result", "tool", "text",
"ok"}``, ``{"kind": "refused", "tool", "why"}``; at the end ``{"kind": "end", "line", "history"}`` or ``{"kind": "error", "code",
"message", "remedy"}``.  Tools are called through the gateway, as any client's are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harbourmaster.core.errors import HarbourError
from runner.agent.approval import Approver
from runner.agent.budget import Budget
from runner.agent.events import AgentEvent, CallAnswered, CallRefused, CallStarted, Said, Tool, ToolResult
from runner.agent.loop import Agent, ToolBox, run
from runner.agent.models import OpenAIModel
from runner.agent.tools import connect
from runner.agent.toolset import select
from runner.errors import RequestInvalid

Event = dict[str, Any]
Put = Callable[[Event], None]

BUDGET = Budget(rounds=6, calls=12, tokens=4096, seconds=300.0)  # a person waits at the page
SHOWN_RESULT = 4000  # characters; the model reads more
SYSTEM = "You do the user's task with the tools that you have. Use a tool where one helps; then answer in a few words."


@dataclass(frozen=True)
class Wish:
    """``tools``: public names, empty for a talk without; ``act``: tools that do not say they only read may run too."""

    model: str
    messages: list[dict[str, str]]
    tools: tuple[str, ...] = ()
    act: bool = False
    runner_url: str = ""
    gateway_url: str = ""
    gateway_token: str = field(default="", repr=False)


async def talk(wish: Wish) -> AsyncIterator[Event]:
    """Ends with the talk, or, when its reader leaves, ends the talk."""
    queue: asyncio.Queue[Event | None] = asyncio.Queue()
    task = asyncio.get_running_loop().create_task(_turn(wish, queue.put_nowait))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (event := await queue.get()) is not None:
            yield event
        await task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _turn(wish: Wish, put: Put) -> None:
    try:
        if wish.tools:
            async with connect(wish.gateway_url, wish.gateway_token) as box:
                await _ask(wish, _Chosen(box, select(box.tools, wish.tools)), put)
        else:
            await _ask(wish, _Chosen(None, []), put)
    except HarbourError as e:
        put({"kind": "error", "code": e.code, "message": e.message, "remedy": e.remedy})


async def _ask(wish: Wish, box: ToolBox, put: Put) -> None:
    opening = [{"role": "system", "content": SYSTEM}] if wish.tools else []
    approve = Approver("always" if wish.act else "never")
    model = OpenAIModel(f"{wish.runner_url}/v1", wish.model)
    # Who chooses tools wants them used, and small models seldom think of it themselves; later rounds are free.
    choice = "required" if wish.tools else "auto"
    agent = Agent(model, box, BUDGET, approve, first_choice=choice, parallel=False)
    report = await run(agent, [*opening, *wish.messages], lambda event: _tell(event, put))
    if report.error is not None:
        raise report.error
    history = [*wish.messages, {"role": "assistant", "content": report.answer}]
    put({"kind": "end", "line": "" if report.ok and not report.calls else report.line(), "history": history})


def _tell(event: AgentEvent, put: Put) -> None:
    match event:
        case Said(text):
            put({"kind": "said", "text": text})
        case CallStarted(call):
            put({"kind": "call", "tool": call.name, "arguments": call.arguments_text})
        case CallAnswered(call, result):
            text = result.text[:SHOWN_RESULT]
            put({"kind": "result", "tool": call.name, "text": text, "ok": not result.is_error})
        case CallRefused(call, why):
            put({"kind": "refused", "tool": call.name, "why": why})


@dataclass(frozen=True)
class _Chosen:
    """The tools that were chosen, of all that the gateway serves; ``box`` None: no tools at all."""

    box: ToolBox | None
    tools: Sequence[Tool]

    async def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        if self.box is None:
            raise RequestInvalid("this talk has no tools", remedy="choose a server's")
        return await self.box.call(name, arguments)
