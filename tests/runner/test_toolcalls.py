"""Tool calls: whose format, under which grammar, read back, checked, repaired once, or refused."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from runner.chat.job import ChatJob, Done, Text, ToolCall
from runner.chat.toolcalls import chat
from runner.chat.toolformat import GENERIC, LLAMA, MISTRAL, TAGGED, ToolFormat, format_of, grammar_of_calls
from runner.engine.sampling import Trigger
from runner.errors import ToolCallInvalid
from tests.runner.gbnf import Drawer

WEATHER = {
    "name": "weather",
    "description": "The weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "array", "uniqueItems": True}},
        "required": ["city"],
    },
}
CLOCK = {"name": "clock", "description": "", "parameters": {"type": "object", "properties": {}}}
HI = [{"role": "user", "content": "Hi"}]
HERMES = "{% if tools %}<tool_call>{{ tools }}{% endif %}{{ messages }}"


class Scripted:
    """An engine that says what it is told to, a few characters at a time; ``asked`` holds the frames it got."""

    def __init__(self, *answers: str, template: str = HERMES, reason: str = "stop") -> None:
        self.ready = {"template": template}
        self._answers, self._reason = list(answers), reason
        self.asked: list[dict[str, Any]] = []

    async def stream(self, frame: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        self.asked.append(frame)
        answer = self._answers.pop(0)
        for at in range(0, len(answer), 3):
            yield {"ev": "delta", "text": answer[at : at + 3]}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 0}
        yield {"ev": "done", "reason": self._reason, "stop": "", "usage": usage, "timings": {}}


async def run(engine: Scripted, **job: Any) -> tuple[str, list[ToolCall], Done]:
    text, calls = "", []
    async for event in chat(engine, ChatJob(HI, {}, [WEATHER, CLOCK], **job)):
        if isinstance(event, Text):
            text += event.text
        elif isinstance(event, ToolCall):
            calls.append(event)
        else:
            done = event
    return text, calls, done


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("{{ messages }}", GENERIC),
        (HERMES, TAGGED),
        ("{% if tools %}[TOOL_CALLS]{% endif %}", MISTRAL),
        ("{% if tools %}<|python_tag|><|eot_id|>{% endif %}", LLAMA),
        ("{% if tools %}<tool_call><function=x>{% endif %}", GENERIC),
        ("{% if tools %}[TOOL_CALLS]x[ARGS]{% endif %}", GENERIC),
    ],
)
def test_a_template_tells_how_its_model_writes_calls(template: str, form: ToolFormat) -> None:
    assert format_of(template) == form


@pytest.mark.parametrize("form", [GENERIC, TAGGED, MISTRAL, LLAMA], ids=lambda f: f.name)
@pytest.mark.parametrize("parallel", [False, True])
async def test_whatever_the_grammar_of_a_format_allows_is_read_back_as_valid_calls(
    form: ToolFormat, parallel: bool
) -> None:
    templates = {"generic": "{{ messages }}", "tagged": HERMES}
    templates |= {"mistral": "{{ tools }}[TOOL_CALLS]", "llama": "{{ tools }}<|python_tag|>"}
    tools = [CLOCK, {**WEATHER, "parameters": {**WEATHER["parameters"], "properties": {"city": {"enum": ["Paris"]}}}}]
    drawer = Drawer(grammar_of_calls(form, tools, parallel=parallel, after_open=False), random.Random(form.name))
    for _ in range(40):
        engine = Scripted(drawer.draw(), template=templates[form.name])
        _, calls, done = await run(engine, tool_choice="required", parallel=parallel)
        assert done.reason == "tool_calls"
        assert {c.name for c in calls} <= {"weather", "clock"}
        assert len(calls) == 1 or parallel


async def test_text_before_a_call_is_shown_and_the_call_is_not() -> None:
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    text, calls, done = await run(Scripted(f"Let me look. {call}"))
    assert text.strip() == "Let me look."
    assert [(c.name, c.arguments) for c in calls] == [("weather", {"city": "Rome"})]
    assert done.reason == "tool_calls"


async def test_text_that_only_begins_like_a_call_is_text() -> None:
    text, calls, done = await run(Scripted("a < b and <tool"))
    assert (text, calls, done.reason) == ("a < b and <tool", [], "stop")


async def test_a_call_that_breaks_its_schema_is_repaired_once_and_counted() -> None:
    wrong = '<tool_call>{"name": "weather", "arguments": {"city": "Rome", "days": [1, 1]}}</tool_call>'
    right = '<tool_call>{"name": "weather", "arguments": {"city": "Rome", "days": [1]}}</tool_call>'
    engine = Scripted(wrong, right)
    _, calls, done = await run(engine)
    assert calls[0].arguments["days"] == [1]
    assert done.usage.completion_tokens == 10
    assert "non-unique" in engine.asked[1]["messages"][-1]["content"]
    assert "grammar_triggers" not in engine.asked[1]["options"]


@pytest.mark.parametrize(
    "wrong",
    [
        '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": "Rome"}</tool_call>',
        '<tool_call>{"name": "weather"</tool_call>',
        "<tool_call>[]</tool_call>",
        "<tool_call>" + "[" * 100_000,
    ],
)
async def test_a_call_that_stays_wrong_is_an_error_and_never_delivered(wrong: str) -> None:
    seen: list[Any] = []
    with pytest.raises(ToolCallInvalid):
        async for event in chat(Scripted(wrong, wrong), ChatJob(HI, {}, [WEATHER, CLOCK])):
            seen.append(event)
    assert not any(isinstance(e, ToolCall) for e in seen)


async def test_half_a_call_is_none() -> None:
    _, calls, done = await run(Scripted('<tool_call>{"name": "weather", "argu', reason="length"))
    assert (calls, done.reason) == ([], "length")


async def test_auto_leaves_the_grammar_asleep_until_a_call_begins() -> None:
    engine = Scripted("Hello.")
    await run(engine)
    options = engine.asked[0]["options"]
    assert options["grammar_triggers"] == ["<tool_call>"]
    assert "weather" in options["grammar"]


async def test_a_named_tool_is_the_only_one_the_grammar_knows() -> None:
    engine = Scripted('<tool_call>{"name": "clock", "arguments": {}}</tool_call>')
    _, calls, _ = await run(engine, tool_choice="=clock")
    assert calls[0].name == "clock"
    assert "weather" not in engine.asked[0]["options"]["grammar"]


async def test_with_none_the_model_is_not_told_of_tools() -> None:
    engine = Scripted("Hello.")
    await run(engine, tool_choice="none")
    assert "tools" not in engine.asked[0]
    assert "grammar" not in engine.asked[0]["options"]


async def test_a_template_without_tools_is_told_in_words_and_one_with_them_natively() -> None:
    plain, native = Scripted("Hello.", template="{{ messages }} system"), Scripted("Hello.")
    await run(plain)
    await run(native)
    assert plain.asked[0]["messages"][0]["role"] == "system"
    assert json.dumps(WEATHER) in plain.asked[0]["messages"][0]["content"]
    assert native.asked[0]["messages"] == HI
    assert native.asked[0]["tools"][0]["function"] == WEATHER


def test_a_trigger_is_seen_across_tokens_and_what_runs_past_it_is_refused() -> None:
    trigger = Trigger(("<tool_call>",))
    assert trigger.push(b"so <tool")
    assert not trigger.push(b'_call>{"')
    assert trigger.sleeping
    assert trigger.push(b"_call>\n")
    assert not trigger.sleeping


def test_a_trigger_for_the_start_sleeps_on_after_other_text() -> None:
    trigger = Trigger(("{",), at_start=True)
    assert trigger.push(b" ok ")
    assert trigger.push(b"{")
    assert trigger.sleeping
    assert not Trigger(("{",), at_start=True).push(b'{"')
