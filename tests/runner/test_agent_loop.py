"""The loop's own rules.  A scripted model says what no real one can be made to say; nothing else stands in for anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from runner.agent.approval import DEFER, Approver, Decision, allow_all
from runner.agent.budget import Budget
from runner.agent.events import (
    AgentEvent,
    Call,
    CallAnswered,
    CallRefused,
    CallStarted,
    MessageAdded,
    Report,
    Said,
    Tool,
    ToolResult,
)
from runner.agent.loop import Agent, run
from runner.agent.models import ModelEvent, Question
from runner.agent.toolset import answered, make_call, select
from runner.chat.job import Done, Text, Usage
from runner.errors import EngineDied, PromptTooLong, RequestInvalid, ToolCallInvalid, ToolsUnavailable

ADD = Tool(
    "add",
    "Add two numbers",
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
)
WAIT = Tool("wait", "Wait for the others", read_only=True)
ASK = [{"role": "user", "content": "What is 2 + 3?"}]


def says(text: str) -> list[Any]:
    return [Text(text), Done("stop", Usage(10, 5))]


def calls(*wanted: tuple[str, str]) -> list[Any]:
    made = [make_call(f"c{i}-{name}", name, text) for i, (name, text) in enumerate(wanted)]
    return [*made, Done("tool_calls", Usage(10, 5))]


ADD_2_3 = calls(("add", '{"a": 2, "b": 3}'))


@dataclass
class Script:
    """Answers in order; the last one again and again."""

    answers: list[Any]
    questions: list[Question] = field(default_factory=list)

    async def answer(self, question: Question) -> AsyncGenerator[ModelEvent, None]:
        self.questions.append(Question(list(question.messages), question.tools, question.options, question.tool_choice))
        answer = self.answers[min(len(self.questions), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        for event in answer:
            yield event


@dataclass
class Box:
    tools: list[Tool] = field(default_factory=lambda: [ADD, WAIT])
    waiting: int = 0
    most_waiting: int = 0
    together: int = 2
    met: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        if name == "add":
            return ToolResult(str(arguments["a"] + arguments["b"]))
        if name == "wait":
            self.waiting += 1
            self.most_waiting = max(self.most_waiting, self.waiting)
            if self.waiting == self.together:
                self.met.set()
            await self.met.wait()
            self.waiting -= 1
            return ToolResult("met")
        if name == "broken":
            return ToolResult("no such file", is_error=True)
        raise ToolsUnavailable("the gateway went away")


@dataclass
class Ran:
    report: Report
    events: list[AgentEvent]
    script: Script

    @property
    def added(self) -> list[dict[str, Any]]:
        return [e.message for e in self.events if isinstance(e, MessageAdded)]

    def of(self, kind: type[Any]) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]


@pytest.fixture
def ran() -> Callable[..., Any]:
    async def go(*answers: Any, box: Box | None = None, messages: Any = ASK, **more: Any) -> Ran:
        script, events = Script(list(answers)), list[AgentEvent]()
        agent = Agent(script, box or Box(), **{"approve": allow_all, **more})
        return Ran(await run(agent, messages, events.append), events, script)

    return go


async def test_a_call_is_carried_out_and_its_result_is_read_before_the_answer(ran: Any) -> None:
    it = await ran(ADD_2_3, says("It is 5."))
    assert it.report.ok
    assert (it.report.answer, it.report.rounds, it.report.calls) == ("It is 5.", 2, 1)
    call, result, answer = it.added
    assert call["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 2, "b": 3}'}
    assert result == {"role": "tool", "tool_call_id": "c0-add", "content": "5"}
    assert answer == {"role": "assistant", "content": "It is 5."}
    assert it.script.questions[1].messages[-1] == result
    assert "".join(e.text for e in it.of(Said)) == "It is 5."


async def test_an_answer_without_a_tool_is_reported_as_that(ran: Any) -> None:
    it = await ran(says("About five."))
    assert it.report.ok
    assert it.report.why == "the model answered without using a tool"


async def test_calls_of_one_round_run_at_the_same_time_and_results_keep_their_order(ran: Any) -> None:
    box = Box(together=3)
    it = await ran(
        calls(("wait", ""), ("add", '{"a": 1, "b": 1}'), ("wait", "{}"), ("wait", "{}")), says("done"), box=box
    )
    assert box.most_waiting == 3
    assert [m["content"] for m in it.added if m["role"] == "tool"] == ["met", "2", "met", "met"]


async def test_calls_one_by_one_never_meet(ran: Any) -> None:
    box = Box(together=1)
    it = await ran(calls(("wait", ""), ("wait", "")), says("done"), box=box, parallel=False)
    assert box.most_waiting == 1
    assert it.report.calls == 2


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("subtract", "{}", "no tool named subtract"),
        ("add", "{oops", "no JSON object"),
        ("add", "[1]", "no JSON object"),
        ("add", '{"a": 1}', "'b' is a required property"),
        ("add", '{"a": 1, "b": "2"}', "b: '2' is not of type 'integer'"),
    ],
)
async def test_a_call_that_fits_no_tool_is_not_made_and_the_model_is_told_why(
    ran: Any, name: str, text: str, why: str
) -> None:
    it = await ran(calls((name, text)), ADD_2_3, says("5"))
    assert it.report.ok
    assert (it.report.calls, it.report.refused_calls) == (1, 1)
    assert why in it.added[1]["content"]
    assert it.of(CallStarted)[0].call.name == "add"


async def test_a_model_that_gives_no_usable_call_twice_is_stopped_and_the_report_says_so(ran: Any) -> None:
    it = await ran(calls(("add", '{"a": 1}')))
    assert it.report.outcome == "no_usable_call"
    assert "'b' is a required property" in it.report.why
    assert (it.report.rounds, it.report.calls, it.report.refused_calls) == (2, 0, 2)


async def test_a_call_that_the_runner_could_not_repair_is_told_to_the_model_once(ran: Any) -> None:
    broken = ToolCallInvalid("the model wrote a tool call that is invalid: it is not JSON")
    it = await ran(broken, says("5"))
    assert it.report.ok
    assert it.added[0]["role"] == "user"
    assert "it is not JSON" in it.added[0]["content"]
    again = await ran(broken)
    assert again.report.outcome == "no_usable_call"
    assert again.report.rounds == 2


async def test_rounds_end_with_an_answer_from_what_is_known(ran: Any) -> None:
    it = await ran(ADD_2_3, ADD_2_3, says("so far 5"), budget=Budget(rounds=3))
    assert [q.tool_choice for q in it.script.questions] == ["auto", "auto", "none"]
    assert (it.report.outcome, it.report.answer) == ("budget", "so far 5")
    assert "the limit of 3 rounds" in it.report.why


async def test_a_limit_of_calls_refuses_what_is_over_it(ran: Any) -> None:
    two = calls(("add", '{"a": 1, "b": 1}'), ("add", '{"a": 2, "b": 2}'))
    it = await ran(two, says("2, and one more"), budget=Budget(calls=1))
    assert (it.report.outcome, it.report.calls, it.report.refused_calls) == ("budget", 1, 1)
    assert "limit of 1 calls" in it.of(CallRefused)[0].why
    assert it.script.questions[1].tool_choice == "none"


async def test_a_limit_of_tokens_is_given_to_the_model_and_ends_the_run(ran: Any) -> None:
    it = await ran(ADD_2_3, [Text("The sum"), Done("length", Usage(20, 3))], budget=Budget(tokens=8))
    assert [q.options["max_tokens"] for q in it.script.questions] == [8, 3]
    assert it.report.outcome == "budget"
    assert it.report.tokens == 8
    assert "cut the answer off" in it.report.why


async def test_time_ends_a_call_that_hangs(ran: Any) -> None:
    it = await ran(calls(("wait", "")), box=Box(together=2), budget=Budget(seconds=0.05))
    assert it.report.outcome == "budget"
    assert "0.05 seconds" in it.report.why
    assert it.of(CallAnswered) == []


@pytest.mark.parametrize(("text", "outcome"), [("It may be", "no_answer"), ("", "no_usable_call")])
async def test_an_answer_that_is_cut_off_is_none(ran: Any, text: str, outcome: str) -> None:
    it = await ran([*([Text(text)] if text else []), Done("length", Usage(1, 1))])
    assert it.report.outcome == outcome
    assert "cut off" in it.report.why


async def test_silence_is_no_answer(ran: Any) -> None:
    it = await ran([Done("stop", Usage(1, 1))])
    assert it.report.outcome == "no_answer"


async def test_a_tool_s_error_is_read_by_the_model_and_counted(ran: Any) -> None:
    it = await ran(calls(("broken", "")), says("I cannot."), box=Box([Tool("broken")]))
    assert it.added[1]["content"] == "Error: no such file"
    assert (it.report.outcome, it.report.failed_calls) == ("answered", 1)
    assert "every call that it made failed" in it.report.why


@pytest.mark.parametrize(
    ("answers", "code"),
    [([EngineDied("the engine died")], "runner.engine_died"), ([calls(("gone", ""))], "runner.tools_unavailable")],
)
async def test_a_fault_is_reported_with_its_code(ran: Any, answers: Any, code: str) -> None:
    it = await ran(*answers, box=Box([Tool("gone")]))
    assert (it.report.outcome, it.report.as_dict()["code"]) == ("failed", code)


async def test_where_the_tools_fill_the_context_the_report_says_how_many_they_are(ran: Any) -> None:
    it = await ran(PromptTooLong("the prompt has 9 tokens and the context holds 8"))
    assert it.report.why.endswith("the descriptions of 2 tools are part of the prompt: offer fewer")


async def test_a_long_result_is_marked_as_a_part(ran: Any) -> None:
    it = await ran(ADD_2_3, says("5"), result_chars=0)
    assert it.added[1]["content"] == "\n[cut: these are the first 0 of 1 characters]"
    assert it.of(CallAnswered)[0].result.text == "5"


async def test_required_holds_for_the_first_round_only(ran: Any) -> None:
    it = await ran(ADD_2_3, says("5"), first_choice="=add")
    assert [q.tool_choice for q in it.script.questions] == ["=add", "auto"]


async def test_without_tools_the_model_is_not_asked_for_calls(ran: Any) -> None:
    it = await ran(says("hello"), box=Box([]), first_choice="auto")
    assert it.script.questions[0].tool_choice == "none"
    assert it.report.why == "the model answered"


# -- approval


async def test_only_tools_that_say_they_read_run_unasked(ran: Any) -> None:
    asked: list[str] = []

    async def ask(call: Call, tool: Tool) -> Any:
        asked.append(tool.name)
        return "no"

    both = calls(("wait", ""), ("add", '{"a": 2, "b": 3}'))
    it = await ran(both, says("ok"), box=Box(together=1), approve=Approver("ask", ask))
    assert asked == ["add"]
    assert (it.report.calls, it.report.refused_calls) == (1, 1)
    assert sorted(m["content"] for m in it.added if m["role"] == "tool") == ["Not done: the person refused it", "met"]


async def test_a_yes_to_a_tool_is_asked_for_once(ran: Any) -> None:
    asked: list[str] = []

    async def ask(call: Call, tool: Tool) -> Any:
        asked.append(tool.name)
        return "tool"

    it = await ran(ADD_2_3, ADD_2_3, says("5"), approve=Approver("ask", ask))
    assert asked == ["add"]
    assert it.report.calls == 2


@pytest.mark.parametrize("approver", [Approver("never"), Approver("ask", None)])
async def test_where_nobody_can_say_yes_nothing_that_writes_runs(ran: Any, approver: Approver) -> None:
    it = await ran(ADD_2_3, says("I may not."), approve=approver)
    assert (it.report.calls, it.report.refused_calls) == (0, 1)
    assert it.of(CallStarted) == []


async def test_always_asks_nobody(ran: Any) -> None:
    it = await ran(ADD_2_3, says("5"), approve=Approver("always"))
    assert it.report.calls == 1


async def test_a_deferred_call_ends_the_run_after_the_others_are_done(ran: Any) -> None:
    async def defer_add(call: Call, tool: Tool) -> Decision:
        return DEFER if tool.name == "add" else Decision("allow")

    both = calls(("add", '{"a": 2, "b": 3}'), ("wait", ""))
    it = await ran(both, box=Box(together=1), approve=defer_add)
    assert (it.report.outcome, it.report.calls) == ("deferred", 1)
    assert [m["content"] for m in it.added if m["role"] == "tool"] == ["met"]


async def test_approved_calls_are_carried_out_first_and_their_results_stand_behind_them(ran: Any) -> None:
    script, events = Script([says("5")]), list[AgentEvent]()
    call = make_call("c1", "add", '{"a": 2, "b": 3}')
    asked = {"role": "assistant", "content": "", "tool_calls": [{"id": "c1"}]}
    later = {"role": "user", "content": "go on"}
    report = await run(Agent(script, Box()), [*ASK, asked, later], events.append, approved=[call])
    assert report.calls == 1
    assert [m["role"] for m in script.questions[0].messages] == ["user", "assistant", "tool", "user"]


# -- tools and messages


def test_a_pattern_that_names_no_tool_is_an_error() -> None:
    assert [t.name for t in select([ADD, WAIT], ["a*"])] == ["add"]
    with pytest.raises(RequestInvalid, match="no tool is named sub"):
        select([ADD, WAIT], ["add", "sub"])


def test_a_fixed_argument_leaves_the_model_no_choice() -> None:
    [tool] = select([ADD], fixed={"add": {"a": 7}})
    assert tool.parameters["properties"]["a"] == {"const": 7}
    assert ADD.parameters["properties"]["a"] == {"type": "integer"}
    for wrong in ({"sub": {"a": 1}}, {"add": {"c": 1}}):
        with pytest.raises(RequestInvalid):
            select([ADD], fixed=wrong)


async def test_another_value_than_the_fixed_one_is_refused(ran: Any) -> None:
    it = await ran(ADD_2_3, says("no"), box=Box(select([ADD], fixed={"add": {"a": 7}})))
    assert (it.report.calls, it.report.refused_calls) == (0, 1)
    assert "7 was expected" in it.added[1]["content"]


def test_calls_without_a_result_get_one_right_behind_them() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}, {"id": "2"}]}
    done = {"role": "tool", "tool_call_id": "2", "content": "x"}
    whole = answered([call, done], "interrupted")
    assert [m.get("tool_call_id") for m in whole] == [None, "1", "2"]
