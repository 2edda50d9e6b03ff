"""The tasks extension (SEP-2663) as its scenarios ask for it: tools whose work goes on after the answer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from .asking import question
from .content import said
from .shelf import Call, Shelf

EXTENSION = "io.modelcontextprotocol/tasks"
TTL_MS = 60_000
NEEDED = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}

Ctx = ServerRequestContext[Any]
Work = Callable[["Job"], Awaitable[types.CallToolResult]]
jobs = Shelf()


class Job:
    """One piece of work, which may ask the client on its way."""

    def __init__(self, work: Work) -> None:
        self.name = secrets.token_urlsafe(16)
        self.since = _now()
        self.questions: dict[str, types.InputRequest] = {}
        self._answered = asyncio.Event()
        self.answers: dict[str, Any] = {}
        self.task: asyncio.Task[types.CallToolResult] = asyncio.ensure_future(work(self))

    async def ask(self, questions: dict[str, types.InputRequest]) -> dict[str, Any]:
        self.questions = dict(questions)
        while self.questions:
            await self._answered.wait()
            self._answered.clear()
        return self.answers

    def answer(self, responses: dict[str, Any]) -> None:
        for key in [key for key in responses if key in self.questions]:
            del self.questions[key]
            self.answers[key] = responses[key]
        self._answered.set()

    @property
    def status(self) -> str:
        if not self.task.done():
            return "input_required" if self.questions else "working"
        if self.task.cancelled():
            return "cancelled"
        return "failed" if self.task.exception() is not None else "completed"

    def about(self) -> dict[str, Any]:
        at = {"createdAt": self.since, "lastUpdatedAt": _now()}
        return {"taskId": self.name, "status": self.status, **at, "ttlMs": TTL_MS, "pollIntervalMs": 100}

    def detail(self) -> dict[str, Any]:
        body = {**self.about(), "resultType": "complete"}
        if body["status"] == "completed":
            body["result"] = _wire(self.task.result())
        elif body["status"] == "failed":
            body["error"] = {"code": types.INTERNAL_ERROR, "message": str(self.task.exception())}
        elif self.questions:
            body["inputRequests"] = {key: _wire(asked) for key, asked in self.questions.items()}
        return body


KNOWN: dict[str, Job] = {}


async def run(call: Call, work: Work, *, required: bool = False) -> Any:
    """A task where the client can take one; else its answer, once it is there."""
    if declared(call.ctx):
        job = Job(work)
        KNOWN[job.name] = job
        return {"resultType": "task", **job.about()}
    if required:
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "this tool needs the tasks extension", NEEDED)
    return await work(Job(work))


def declared(ctx: Ctx) -> bool:
    meta = (ctx.params or {}).get("_meta") or {}
    return EXTENSION in (meta.get(types.CLIENT_CAPABILITIES_META_KEY, {}).get("extensions") or {})


@jobs.tool("greet", "Greets", {"name": {"type": "string"}})
async def greet(call: Call) -> types.CallToolResult:
    return said(f"Hello, {call.arguments.get('name')}!")


COMPUTE = {"seconds": {"type": "number"}, "label": {"type": "string"}}


@jobs.tool("slow_compute", "Takes its time", COMPUTE)
async def slow_compute(call: Call) -> Any:
    async def work(job: Job) -> types.CallToolResult:
        await asyncio.sleep(call.arguments.get("seconds", 0))
        return said("computed")

    return await run(call, work)


@jobs.tool("failing_job", "Fails, after a while")
async def failing_job(call: Call) -> Any:
    async def work(job: Job) -> types.CallToolResult:
        await asyncio.sleep(0.2)
        failed = said("it failed")
        failed.is_error = True
        return failed

    return await run(call, work, required=True)


@jobs.tool("protocol_error_job", "Breaks")
async def protocol_error_job(call: Call) -> Any:
    async def work(job: Job) -> types.CallToolResult:
        raise RuntimeError("it broke")

    return await run(call, work)


@jobs.tool("confirm_delete", "Asks before it deletes", {"filename": {"type": "string"}})
async def confirm_delete(call: Call) -> Any:
    async def work(job: Job) -> types.CallToolResult:
        answers = await job.ask({"confirm": question("Delete it?", "confirm", "boolean")})
        return said(f"deleted: {answers}")

    return await run(call, work)


@jobs.tool("multi_input", "Asks two things at once")
async def multi_input(call: Call) -> Any:
    async def work(job: Job) -> types.CallToolResult:
        return said(str(await job.ask({"one": question("First?", "name"), "two": question("Second?", "name")})))

    return await run(call, work)


@jobs.tool("test_tool_with_task", "Asks for a name, then works on")
async def with_task(call: Call) -> Any:
    answers = await call.client.ask({"user_name": question("Who?", "name")}, with_state=True)

    async def work(job: Job) -> types.CallToolResult:
        return said(f"done for {answers['user_name']['content']['name']}")

    return await run(call, work, required=True)


class Named(types.RequestParams):
    task_id: str


class Answered(Named):
    input_responses: dict[str, Any]


def found(ctx: Ctx, params: Named) -> Job:
    if not declared(ctx):
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "this request needs the tasks extension", NEEDED)
    job = KNOWN.get(params.task_id)
    if job is None:
        raise MCPError(types.INVALID_PARAMS, "no such task")
    return job


async def get(ctx: Ctx, params: Named) -> dict[str, Any]:
    return found(ctx, params).detail()


async def update(ctx: Ctx, params: Answered) -> dict[str, Any]:
    found(ctx, params).answer(params.input_responses)
    await asyncio.sleep(0)  # it is taken in before anybody looks again
    return {"resultType": "complete"}


async def cancel(ctx: Ctx, params: Named) -> dict[str, Any]:
    found(ctx, params).task.cancel()
    return {"resultType": "complete"}


def serve(server: Server[Any]) -> None:
    server.extensions[EXTENSION] = {}
    server.add_request_handler("tasks/get", Named, get)
    server.add_request_handler("tasks/update", Answered, update)
    server.add_request_handler("tasks/cancel", Named, cancel)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _wire(value: Any) -> dict[str, Any]:
    body: dict[str, Any] = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return body
