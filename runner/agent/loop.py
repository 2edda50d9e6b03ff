"""The loop: ask the model, carry out what it asks for, ask again; until it answers, or a limit or a fault ends it.

Does no I/O of its own.  Raises nothing but cancellation: what went wrong is in the report.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from harbourmaster.core.errors import HarbourError
from runner.agent.approval import Approve, Approver
from runner.agent.budget import Budget, Limit, Spent
from runner.agent.events import (
    AgentEvent,
    Call,
    CallAnswered,
    CallAsked,
    CallDeferred,
    CallRefused,
    CallStarted,
    MessageAdded,
    Outcome,
    Report,
    RoundBegun,
    Said,
    Tool,
    ToolResult,
)
from runner.agent.models import ChatModel, Question
from runner.agent.toolset import add_message, calls_message, objection, result_message
from runner.chat.job import Done, Text
from runner.errors import PromptTooLong, ToolCallInvalid

MAX_UNUSABLE = 2  # rounds in a row in which nothing that the model asks for can be carried out
MAX_RESULT_CHARS = 24_000  # of one result that the model reads: about 6,000 tokens
Tell = Callable[[AgentEvent], None]


class ToolBox(Protocol):
    """What ``tools.McpTools`` is; ``call`` raises only when no later call can succeed either."""

    @property
    def tools(self) -> Sequence[Tool]: ...

    async def call(self, name: str, arguments: dict[str, Any]) -> ToolResult: ...


@dataclass(frozen=True)
class Agent:
    model: ChatModel
    box: ToolBox
    budget: Budget = field(default_factory=Budget)
    approve: Approve = field(default_factory=lambda: Approver("ask"))
    options: dict[str, Any] = field(default_factory=dict, hash=False)  # of generation: temperature, seed, ...
    first_choice: str = "auto"  # of the first round: auto, none, required, or "=NAME"; later ones are auto
    parallel: bool = True
    result_chars: int = MAX_RESULT_CHARS
    clock: Callable[[], float] = time.monotonic


async def run(
    agent: Agent, messages: Sequence[dict[str, Any]], tell: Tell = lambda event: None, *, approved: Sequence[Call] = ()
) -> Report:
    """Go on from ``messages`` (OpenAI's shape) until the model has answered.

    Every call in them has its result, but for those in ``approved``: they are carried out before the model is asked.
    """
    work = _Run(agent, list(messages), tell)
    limit = asyncio.timeout(agent.budget.seconds)
    try:
        async with limit:
            await work.go_on(approved)
            return await work.rounds()
    except TimeoutError:
        if not limit.expired():
            raise
        return work.over("seconds", "ended it")
    except HarbourError as e:
        why = f"{e.message} ({e.remedy})" if e.remedy else e.message
        if isinstance(e, PromptTooLong) and agent.box.tools:
            why += f"; the descriptions of {len(agent.box.tools)} tools are part of the prompt: offer fewer"
        return work.report("failed", why, error=e)


@dataclass
class _Turn:
    text: str = ""
    calls: list[Call] = field(default_factory=list)
    reason: str = ""
    invalid: str = ""  # why the model's call never became one
    offered: bool = True  # could it call tools?


class _Run:
    def __init__(self, agent: Agent, messages: list[dict[str, Any]], tell: Tell) -> None:
        self._agent, self._messages, self._tell = agent, messages, tell
        self._tools = {t.name: t for t in agent.box.tools}
        self._spent = Spent(agent.budget, agent.clock)
        self._answer = ""
        self._failed = self._refused = self._unusable = self._cached = 0

    async def go_on(self, approved: Sequence[Call]) -> None:
        """Approved or not, a call must fit a tool that is there now."""
        for call in approved:
            if why := objection(call, self._tools):
                self._refuse(call, why)
            else:
                await self.carry_out([call])

    async def rounds(self) -> Report:
        choice = self._agent.first_choice
        while not (limit := self._spent.reached()):
            last = self._is_last()
            turn = await self._ask("none" if last or not self._tools else choice)
            choice = "auto"
            if turn.invalid or turn.calls:
                if ended := await self._on_calls(turn):
                    return ended
            else:
                return self._ended(turn, last)
        return self.over(limit, "ended it before the model had answered")

    def _is_last(self) -> bool:
        """The model has used tools and may not use more: it is asked for an answer from what it has."""
        budget, spent = self._agent.budget, self._spent
        return spent.calls >= budget.calls or (spent.calls > 0 and spent.rounds + 1 >= budget.rounds)

    def over(self, limit: Limit, what: str) -> Report:
        return self.report("budget", f"{self._spent.words(limit)} {what}", limit=limit)

    def report(self, outcome: Outcome, why: str, *, limit: Limit = "", error: HarbourError | None = None) -> Report:
        spent = self._spent
        return Report(
            outcome=outcome,
            why=why,
            answer=self._answer,
            rounds=spent.rounds,
            calls=spent.calls,
            failed_calls=self._failed,
            refused_calls=self._refused,
            tokens=spent.tokens,
            read_tokens=spent.read,
            cached_tokens=self._cached,
            seconds=spent.seconds,
            limit=limit,
            error=error,
        )

    # -- one turn of the model

    async def _ask(self, choice: str) -> _Turn:
        self._spent.rounds += 1
        self._tell(RoundBegun(self._spent.rounds))
        turn = _Turn(offered=choice != "none")
        most = min(self._agent.options.get("max_tokens") or self._spent.tokens_left, self._spent.tokens_left)
        options = {**self._agent.options, "max_tokens": most}
        question = Question(self._messages, list(self._tools.values()), options, choice, self._agent.parallel)
        try:
            async with aclosing(self._agent.model.answer(question)) as events:
                async for event in events:
                    self._hear(turn, event)
        except ToolCallInvalid as e:
            turn.calls, turn.invalid = [], e.message
        if turn.text or turn.calls:
            self._add(calls_message(turn.text, turn.calls))
        return turn

    def _hear(self, turn: _Turn, event: Text | Call | Done) -> None:
        if isinstance(event, Text):
            turn.text += event.text
            self._tell(Said(event.text))
        elif isinstance(event, Call):
            turn.calls.append(event)
        else:
            turn.reason = event.reason
            self._spent.tokens += event.usage.completion_tokens
            self._spent.read += event.usage.prompt_tokens
            self._cached += event.usage.cached_tokens

    def _add(self, message: dict[str, Any]) -> None:
        add_message(self._messages, message)
        self._tell(MessageAdded(message))

    def _ended(self, turn: _Turn, last: bool) -> Report:
        self._answer = turn.text
        if turn.reason == "length":
            return self._cut_off(turn)
        if not turn.text.strip():
            return self.report("no_answer", "the model ended its turn without a word")
        if last:
            limit: Limit = "rounds" if self._spent.calls < self._agent.budget.calls else "calls"
            return self.over(limit, "ended it; the answer is from what was known by then")
        if self._failed and self._failed == self._spent.calls:
            return self.report("answered", "the model answered, but every call that it made failed")
        without = " without using a tool" if self._tools and not self._spent.calls else ""
        return self.report("answered", f"the model answered{without}")

    def _cut_off(self, turn: _Turn) -> Report:
        if not self._spent.tokens_left:
            return self.over("tokens", "cut the answer off")
        if turn.text.strip():
            return self.report("no_answer", "the answer was cut off by the model's limit of tokens")
        return self.report("no_usable_call", "the model began a call and was cut off by its limit of tokens")

    # -- calls

    async def _on_calls(self, turn: _Turn) -> Report | None:
        """The run's end, if these calls are it."""
        for call in turn.calls:
            self._tell(CallAsked(call))
        known = self._tools if turn.offered else {}  # servers may call tools all the same
        objections = {c.id: objection(c, known) for c in turn.calls}
        good = [c for c in turn.calls if not objections[c.id]]
        for call in turn.calls:
            if why := objections[call.id]:
                self._refuse(call, why)
        if not good:
            return self._on_unusable(turn.invalid or next(w for w in objections.values() if w), told=bool(turn.calls))
        self._unusable = 0
        allowed, deferred = await self._decide(good)
        await self.carry_out(allowed)
        return self.report("deferred", f"{deferred} calls wait for an answer from outside") if deferred else None

    def _on_unusable(self, why: str, *, told: bool) -> Report | None:
        self._unusable += 1
        if self._unusable >= MAX_UNUSABLE:
            return self.report("no_usable_call", f"the model gave no usable call: {why}")
        if not told:
            self._add(
                {"role": "user", "content": f"That was no usable tool call: {why}. Call a tool again, or answer."}
            )
        return None

    async def _decide(self, calls: list[Call]) -> tuple[list[Call], int]:
        """Those to carry out, and how many are left to others; one after the other, for a person may be asked."""
        allowed: list[Call] = []
        deferred = 0
        for call in calls:
            tool = self._tools[call.name]
            if tool.external:
                deferred += 1
                self._tell(CallDeferred(call, external=True))
                continue
            if self._spent.calls + len(allowed) >= self._agent.budget.calls:
                self._refuse(call, f"{self._spent.words('calls')} is reached")
                continue
            decision = await self._agent.approve(call, tool)
            if decision.verdict == "allow":
                allowed.append(call)
            elif decision.verdict == "defer":
                deferred += 1
                self._tell(CallDeferred(call, external=False))
            else:
                self._refuse(call, decision.why)
        return allowed, deferred

    def _refuse(self, call: Call, why: str) -> None:
        self._refused += 1
        self._tell(CallRefused(call, why))
        self._add(result_message(call, f"Not done: {why}"))

    async def carry_out(self, calls: Sequence[Call]) -> None:
        self._spent.calls += len(calls)
        results: list[ToolResult] = []
        if self._agent.parallel and len(calls) > 1:
            tasks = [asyncio.ensure_future(self._call(c)) for c in calls]
            try:
                results = list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        else:
            results = [await self._call(c) for c in calls]
        for call, result in zip(calls, results, strict=True):
            self._failed += result.is_error
            self._add(result_message(call, shown(result, self._agent.result_chars)))

    async def _call(self, call: Call) -> ToolResult:
        self._tell(CallStarted(call))
        began = self._agent.clock()
        result = await self._agent.box.call(call.name, call.arguments or {})
        self._tell(CallAnswered(call, result, self._agent.clock() - began))
        return result


def shown(result: ToolResult, most: int) -> str:
    """What the model reads.  A part is marked as a part."""
    text = result.text if not result.is_error else f"Error: {result.text}"
    if len(text) <= most:
        return text
    return f"{text[:most]}\n[cut: these are the first {most} of {len(text)} characters]"
