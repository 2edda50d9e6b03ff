"""``POST /v1/responses`` and what reads and removes responses."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from harbourmaster.core.errors import HarbourError
from runner.agent.approval import ALLOW, DEFER, Decision
from runner.agent.budget import Budget
from runner.agent.events import AgentEvent, Call, MessageAdded, Report, Tool, ToolResult
from runner.agent.loop import Agent
from runner.agent.loop import run as run_agent
from runner.agent.models import EngineModel
from runner.agent.tools import McpTools, connect
from runner.agent.toolset import add_message, answered
from runner.api.errors import openai_body
from runner.api.http import Events, client_of, json_body, json_response, sse, until_disconnect
from runner.api.responses.items import Output
from runner.api.responses.kept import KeptResponses
from runner.api.responses.request import Conversation, McpServer, ResponseRequest, extend, parse_response
from runner.api.responses.servers import ToolServers
from runner.errors import RequestInvalid, ToolCallInvalid
from runner.scheduler.scheduler import Plan
from runner.service import Runner

ROUNDS = 24  # of one response
CALLS = 100
SECONDS = 900.0
UNANSWERED = "Not done: nobody approved it."
Take = Callable[[bytes], None]


class Responses:
    def __init__(self, runner: Runner, servers: ToolServers) -> None:
        self._runner, self._servers = runner, servers
        self._kept = KeptResponses()

    async def create(self, request: Request) -> Response:
        asked = parse_response(await json_body(request))
        work = self._prepare(asked, client_of(request))
        if asked.stream:
            return Events(self._stream(work), _sse_error, "text/event-stream")
        return json_response(await until_disconnect(request, work.run(lambda frame: None)))

    def _prepare(self, asked: ResponseRequest, client: str) -> _Work:
        """Everything that can be refused before a model is loaded or a tool server is asked."""
        talk = copy.deepcopy(self._kept.get(asked.previous).talk) if asked.previous else Conversation()
        talk.messages = [m for m in talk.messages if m["role"] != "system"]  # instructions do not carry over
        approved = extend(talk, asked.items)
        if approved and not asked.servers:
            raise RequestInvalid("an approved call needs its tool server", remedy="send the same tools", param="tools")
        if instructions := asked.body.get("instructions"):
            talk.messages.insert(0, {"role": "system", "content": str(instructions)})
        places = [(s, self._servers.find(s.label, s.url)) for s in asked.servers]
        tokens = [s.token or self._servers.lent_token(url) for s, url in places]
        plan = self._runner.plan(asked.model)
        targets = [(s, url, token) for (s, url), token in zip(places, tokens, strict=True)]
        return _Work(self._runner, self._kept, asked, plan, client, talk, approved, targets)

    async def _stream(self, work: _Work) -> AsyncGenerator[bytes, None]:
        """The run has a task of its own: connections to tool servers must end where they began."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        task = asyncio.ensure_future(work.run(queue.put_nowait))
        task.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (frame := await queue.get()) is not None:
                yield frame
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def get(self, request: Request) -> Response:
        return json_response(self._kept.get(request.path_params["name"]).response)

    async def inputs(self, request: Request) -> Response:
        items = self._kept.get(request.path_params["name"]).inputs
        first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
        return json_response({"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": False})

    async def delete(self, request: Request) -> Response:
        name = request.path_params["name"]
        self._kept.remove(name)
        return json_response({"id": name, "object": "response", "deleted": True})


@dataclass
class _Box:
    """The tools of all servers of a request, and the client's own."""

    tools: list[Tool]
    owners: dict[str, tuple[McpServer, McpTools]] = field(default_factory=dict)

    def add(self, server: McpServer, found: McpTools) -> list[Tool]:
        chosen = [t for t in found.tools if server.admits(t)]
        for tool in chosen:
            if any(t.name == tool.name for t in self.tools):
                raise RequestInvalid(f"two tools are named {tool.name}", remedy="narrow allowed_tools", param="tools")
            self.owners[tool.name] = server, found
            self.tools.append(tool)
        return chosen

    async def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        return await self.owners[name][1].call(name, arguments)

    async def decide(self, call: Call, tool: Tool) -> Decision:
        return DEFER if self.owners[call.name][0].needs_approval(tool) else ALLOW


@dataclass
class _Work:
    runner: Runner
    kept: KeptResponses
    asked: ResponseRequest
    plan: Plan
    client: str
    talk: Conversation
    approved: list[Call]
    targets: list[tuple[McpServer, str, str]] = field(repr=False)

    async def run(self, take: Take) -> dict[str, Any]:
        """The response; its frames go to ``take`` as they come.  Raises what went wrong before anything had happened."""
        box = _Box(list(self.asked.functions))
        labels: dict[str, str] = {}
        output = Output(_response(self.asked), labels, {c.id: c.id for c in self.approved})
        async with contextlib.AsyncExitStack() as stack:
            output.begin()
            for server, url, token in self.targets:
                tools = box.add(server, await stack.enter_async_context(connect(url, token)))
                labels.update({t.name: server.label for t in tools})
                output.listed(server.label, tools)
            self._check_choice(box)
            return await self._answer(box, output, take)

    def _check_choice(self, box: _Box) -> None:
        choice = self.asked.tool_choice
        if choice.startswith("=") and choice[1:] not in {t.name for t in box.tools}:
            raise RequestInvalid(f"tool_choice names {choice[1:]!r}, which is not among the tools", param="tool_choice")

    async def _answer(self, box: _Box, output: Output, take: Take) -> dict[str, Any]:
        waiting = [c.id for c in self.approved]
        messages = answered(self.talk.messages, UNANSWERED, but=waiting)
        started = False

        def tell(event: AgentEvent) -> None:
            nonlocal started
            if isinstance(event, MessageAdded):
                add_message(messages, event.message)
            output.tell(event)
            if output.items[len(self.targets) :]:  # from here on an error belongs into the stream
                started = True
                for frame in output.take():
                    take(frame)

        report = await run_agent(self._agent(box), list(messages), tell, approved=self.approved)
        if not started and (error := _refusal(report)):
            raise error
        response = output.end(_status(report, output.response), report)
        for frame in output.take():
            take(frame)
        if self.asked.store:
            talk = Conversation(messages, {**output.pending})
            self.kept.put(response, [_input_item(i) for i in self.asked.items], talk)
        return response

    def _agent(self, box: _Box) -> Agent:
        asked = self.asked
        calls = CALLS if asked.max_calls is None else asked.max_calls
        tokens = asked.options.get("max_tokens") or Budget.tokens
        return Agent(
            EngineModel(self.runner, self.plan, self.client),
            box,
            Budget(ROUNDS, calls, tokens, SECONDS),
            box.decide,
            {k: v for k, v in asked.options.items() if k != "max_tokens"},
            asked.tool_choice if box.tools else "none",
            asked.body.get("parallel_tool_calls") is True,  # small models do better with one call at a time
        )


def _refusal(report: Report) -> HarbourError | None:
    """What a client is told in place of a response, as long as nothing has happened."""
    if report.outcome == "no_usable_call":
        return ToolCallInvalid(report.why, remedy="ask again, or use a larger model")
    return report.error


def _status(report: Report, response: dict[str, Any]) -> str:
    """The response's status; what is wrong with it is put into it."""
    cut_off = report.limit == "tokens" or (
        report.outcome in ("no_answer", "no_usable_call") and "cut off" in report.why
    )
    if cut_off:
        response["incomplete_details"] = {"reason": "max_output_tokens"}
        return "incomplete"
    if report.outcome in ("failed", "no_usable_call") or (report.outcome == "budget" and not report.answer):
        response["error"] = {"code": "server_error", "message": report.why}
        return "failed"
    return "completed"


def _response(asked: ResponseRequest) -> dict[str, Any]:
    body = asked.body
    text = body.get("text")
    return {
        "id": f"resp_{secrets.token_hex(16)}",
        "object": "response",
        "created_at": int(time.time()),
        "model": asked.model,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "metadata": body.get("metadata") or {},
        "parallel_tool_calls": body.get("parallel_tool_calls") is True,
        "previous_response_id": asked.previous or None,
        "reasoning": {"effort": None, "summary": None},
        "store": asked.store,
        "temperature": body.get("temperature"),
        "text": text if isinstance(text, dict) and text.get("format") else {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        # What authorizes the client stays with the client.
        "tools": [
            {k: v for k, v in t.items() if k not in ("authorization", "headers")} for t in body.get("tools") or []
        ],
        "top_p": body.get("top_p"),
        "truncation": "disabled",
        "usage": None,
        "user": body.get("user"),
    }


def _input_item(item: dict[str, Any]) -> dict[str, Any]:
    content = item.get("content")
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    return {"id": f"in_{secrets.token_hex(16)}", **item, **({"content": parts} if "content" in item else {})}


def _sse_error(error: HarbourError) -> bytes:
    body = openai_body(error)["error"]
    return b"event: error\n" + sse(
        {"type": "error", "sequence_number": 0, **{k: body[k] for k in ("code", "message", "param")}}
    )
