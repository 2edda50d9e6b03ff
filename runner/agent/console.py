"""``hm agent run`` and ``hm agent chat``: a run put together from words of the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from harbourmaster.core.settings import Settings
from runner.agent import view
from runner.agent.approval import Answer, Approver, Ask
from runner.agent.events import AgentEvent, Call, MessageAdded, Report, Tool
from runner.agent.gateway import gateway_token, gateway_url
from runner.agent.loop import Agent, ToolBox
from runner.agent.loop import run as run_agent
from runner.agent.models import ChatModel, EngineModel, OpenAIModel
from runner.agent.reader import Reader, ask_reader, count
from runner.agent.relevance import SMALL, named, offer
from runner.agent.tools import connect
from runner.agent.toolset import Fixed, add_message, answered, select
from runner.agent.transcript import INTERRUPTED, Transcript
from runner.agent.wanted import Wanted
from runner.cli_output import print_json
from runner.client import RunnerClient, own_url
from runner.errors import RequestInvalid
from runner.service import Runner

DEFAULT_MODEL = "ai/smollm2"
SYSTEM = "You do the user's task with the tools that you have. Use a tool where one helps; then answer in a few words."
HELP = "/bye ends, /clear forgets the conversation, /tools lists the tools, /? shows this"


@dataclass
class Session:
    agent: Agent
    transcript: Transcript
    messages: list[dict[str, Any]]
    view: view.View
    lines: Lines
    reader: Reader = field(default_factory=Reader)
    choose: bool = True  # which tools: nobody said it
    named: frozenset[str] = frozenset()  # tools that a person named in another way: they are offered

    async def turn(self, text: str) -> Report:
        agent = self._for(text)
        self._add({"role": "user", "content": text})
        try:
            report = await run_agent(agent, self.messages, self._tell)
        except asyncio.CancelledError:
            self.messages[:] = answered(self.messages, INTERRUPTED)
            raise
        self.transcript.report(report)
        return report

    def _for(self, task: str) -> Agent:
        """The agent with the tools that the model can read about, and told whether it must begin with one."""
        box, choice = self.agent.box, self.agent.first_choice
        used = self.named | {c["function"]["name"] for m in self.messages for c in m.get("tool_calls", [])}
        offered = offer(box.tools, task, room=self.reader.room if self.choose else 0, used=used)
        if offered.chosen:
            self.view.note(offered.line())
            self.transcript.write("offered", tools=[t.name for t in offered.tools], of=offered.total)
        if not choice:
            must = 0 < self.reader.parameters < SMALL and named(offered.tools, task)
            choice = "required" if must else "auto"
            if must:
                self.view.note("this model is small: it has to begin with a tool (--tool-choice auto: as it likes)")
        return replace(self.agent, box=Chosen(box, list(offered.tools)), first_choice=choice)

    def _add(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self.transcript.message(message)

    def _tell(self, event: AgentEvent) -> None:
        self.transcript.tell(event)
        if isinstance(event, MessageAdded):
            add_message(self.messages, event.message)
        self.view.tell(event)


async def run_once(settings: Settings, wanted: Wanted, task: str, *, as_json: bool) -> Report:
    async with opened(settings, wanted, quiet=as_json) as session:
        report = await session.turn(task)
        if as_json:
            print_json(view.as_json(report, session.transcript.id, str(session.transcript.path)))
        else:
            session.view.report(report)
        return report


async def converse(settings: Settings, wanted: Wanted) -> None:
    async with opened(settings, wanted, quiet=False) as session:
        tools = session.agent.box.tools
        sys.stderr.write(f"{len(tools)} tools; {HELP}\n")
        while (line := await session.lines.ask("> ")) not in (None, "/bye"):
            assert line is not None
            if line == "/clear":
                session.messages[:] = [m for m in session.messages[:1] if m["role"] == "system"]
                session.transcript.write("clear")
            elif line == "/tools":
                sys.stderr.writelines(f"{t.name}: {view.printable(view.short(t.description))}\n" for t in tools)
            elif line in ("/?", "/help"):
                sys.stderr.write(f"{HELP}\n")
            elif line and (report := await _interruptible(session.turn(line))):
                session.view.report(report)
            elif line:
                session.view.end_line()
                sys.stderr.write("interrupted\n")


async def _interruptible(turn: Coroutine[Any, Any, Report]) -> Report | None:
    """Ctrl-C ends the turn, not the conversation."""
    task = asyncio.ensure_future(turn)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if not task.cancelled() or (own := asyncio.current_task()) is None or own.cancelling():
            raise
        return None
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@contextlib.asynccontextmanager
async def opened(settings: Settings, wanted: Wanted, *, quiet: bool) -> AsyncIterator[Session]:
    """Model, tools and transcript of a run; raises what any of them raises, before anything is asked of the model."""
    address = gateway_url(settings, wanted.gateway, wanted.profile)
    async with (
        connect(address, wanted.token or gateway_token(settings)) as gateway,
        _model(settings, wanted) as (model, reader),
    ):
        tools = select(gateway.tools, wanted.tools, parse_fixed(wanted.fixed))
        about = {"model": _name(wanted), "gateway": address, "tools": [t.name for t in tools]}
        transcript, messages = _transcript(settings, wanted, about)
        with transcript:
            lines = Lines()
            agent = Agent(
                model,
                Chosen(gateway, tools),
                wanted.budget,
                Approver(wanted.approve, _asking(lines) if sys.stdin.isatty() else None),
                wanted.options,
                _choice(wanted.tool_choice),
                wanted.parallel,
            )
            yield Session(
                agent, transcript, messages, view.View(quiet=quiet), lines, reader, not wanted.tools, _named(wanted)
            )


@dataclass(frozen=True)
class Chosen:
    """Some tools of a box."""

    box: ToolBox
    tools: list[Tool]

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        return await self.box.call(name, arguments)


def _transcript(settings: Settings, wanted: Wanted, about: dict[str, Any]) -> tuple[Transcript, list[dict[str, Any]]]:
    if wanted.resume:
        transcript, known = Transcript.resume(settings, wanted.resume, about)
        return transcript, list(known.messages)
    transcript = Transcript.begin(settings, about)
    opening = {"role": "system", "content": wanted.system or SYSTEM}
    transcript.message(opening)
    return transcript, [opening]


@contextlib.asynccontextmanager
async def _model(settings: Settings, wanted: Wanted) -> AsyncIterator[tuple[ChatModel, Reader]]:
    """The server that was named; else this machine's runner; else the model in this process."""
    local = RunnerClient(own_url(settings))
    if bool(wanted.url) or await asyncio.to_thread(local.is_up):
        model = OpenAIModel(wanted.url or local.url, _name(wanted), wanted.key if wanted.url else "")
        yield model, await ask_reader(model)
        return
    runner = Runner.open(settings)
    try:
        known = runner.plan(_name(wanted))
        yield EngineModel(runner, known), Reader(known.spec.context, _parameters(runner, _name(wanted)))
    finally:
        await runner.scheduler.close()


def _parameters(runner: Runner, name: str) -> int:
    return count(runner.store.find(name).config.parameters) if runner.store.has(name) else 0


def _named(wanted: Wanted) -> frozenset[str]:
    return frozenset([*parse_fixed(wanted.fixed), _choice(wanted.tool_choice).removeprefix("=")])


def _name(wanted: Wanted) -> str:
    return wanted.model or DEFAULT_MODEL


def parse_fixed(values: tuple[str, ...]) -> Fixed:
    """``TOOL.ARGUMENT=VALUE`` lines; a value is JSON where it can be read so, else a text."""
    fixed: dict[str, dict[str, Any]] = {}
    for line in values:
        place, equals, text = line.partition("=")
        tool, dot, argument = place.rpartition(".")
        if not (equals and dot and tool and argument):
            raise RequestInvalid(f"{line!r} is no TOOL.ARGUMENT=VALUE", param="set")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        fixed.setdefault(tool, {})[argument] = value
    return fixed


def _choice(text: str) -> str:
    return text if text in ("", "auto", "none", "required") else f"={text}"


def _asking(lines: Lines) -> Ask:
    async def ask(call: Call, tool: Tool) -> Answer:
        sys.stderr.write(view.question(call, tool))
        answers: dict[str, Answer] = {"y": "yes", "yes": "yes", "a": "tool", "always": "tool"}
        line = await lines.ask("Call it? [y]es, [N]o, [a]lways this tool: ")
        return answers.get((line or "").lower(), "no")

    return ask


class Lines:
    """Lines that a person types, read in a thread that nobody waits for: Ctrl-C must not hang until the next Enter."""

    def __init__(self) -> None:
        self._waiting: asyncio.Future[str | None] | None = None

    async def ask(self, prompt: str) -> str | None:
        """None at the end of the input."""
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
            arguments = (prompt, self._waiting, asyncio.get_running_loop())
            threading.Thread(target=self._read, args=arguments, daemon=True).start()
        else:  # a question that was interrupted still waits for its line: this one gets it
            sys.stderr.write(prompt)
        line = await asyncio.shield(self._waiting)
        self._waiting = None
        return line

    @staticmethod
    def _read(prompt: str, waiting: asyncio.Future[str | None], loop: asyncio.AbstractEventLoop) -> None:
        try:
            line: str | None = input(prompt).strip()
        except EOFError:
            line = None
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(waiting.set_result, line)
