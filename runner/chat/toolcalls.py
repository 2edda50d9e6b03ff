"""Tool calls: asked for in the model's own format, written under a grammar, read back, checked, repaired once.

A call reaches the client whole and valid or not at all, streaming or not.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from runner.chat.job import ChatEvent, ChatJob, Done, Engine, Text, ToolCall, Usage, generate
from runner.chat.pictures import lift
from runner.chat.stream import possible_start
from runner.chat.toolformat import ToolFormat, format_of, grammar_of_calls, native_tools, with_instructions
from runner.errors import ToolCallInvalid
from runner.grammar.validate import problems


def chat(engine: Engine, job: ChatJob) -> AsyncGenerator[Any, None]:
    """The ``ChatEvent``s that answer ``job``: texts, whole tool calls, and one ``Done`` at the end."""
    if own := getattr(engine, "chat", None):  # another server's model: it has formats and templates of its own
        events: AsyncGenerator[Any, None] = own(job)
        return events
    plain = not job.tools or job.tool_choice == "none"
    return generate(engine, _plain_frame(job)) if plain else _with_tools(engine, job)


def _plain_frame(job: ChatJob) -> dict[str, Any]:
    whole = {"whole": True} if job.whole else {}
    return {"options": job.options, **_texts(job.messages), "template_args": job.template_args, **whole}


def _texts(messages: list[dict[str, Any]]) -> dict[str, Any]:
    texts, pictures = lift(messages)
    return {"messages": texts, **({"images": pictures} if pictures else {})}


async def _with_tools(engine: Engine, job: ChatJob) -> AsyncGenerator[ChatEvent, None]:
    template = str(engine.ready.get("template", ""))
    form = format_of(template)
    lazy = job.tool_choice == "auto"
    reader = CallReader(form, started=not lazy)
    done = None
    async with aclosing(generate(engine, frame_of(job, form, template, lazy=lazy))) as events:
        async for event in events:
            if isinstance(event, Done):
                done = event
            elif text := reader.push(event.text):
                yield Text(text, event.logprobs)
    assert done is not None
    if text := reader.finish():
        yield Text(text)
    if not reader.started or done.reason != "stop":
        yield done  # no call, or one that was cut off: half a call is none
        return
    tools = {t["name"]: t for t in job.tools}
    usage = done.usage
    try:
        calls = read_calls(form, reader.calls_text, tools)
    except ToolCallInvalid as e:
        calls, more = await _repair(engine, job, form, template, reader.calls_text, e)
        usage = usage.plus(more)
    for call in calls:
        yield call
    yield Done("tool_calls", usage, timings=done.timings)


def frame_of(job: ChatJob, form: ToolFormat, template: str, *, lazy: bool) -> dict[str, Any]:
    chosen = [t for t in job.tools if job.tool_choice in ("auto", "required") or t["name"] == job.tool_choice[1:]]
    grammar = grammar_of_calls(form, chosen, parallel=job.parallel and not form.opener_is_json, after_open=lazy)
    options = {**job.options, "grammar": grammar}
    if lazy:
        options |= {"grammar_triggers": [form.open], "grammar_at_start": form.at_start}
    whole = {} if lazy and not job.whole else {"whole": True}  # of calls nothing is shown before the last
    return {"options": options, "special": True, **_prompt(job, form, template), **whole}


def prompt_frame(engine: Engine, job: ChatJob) -> dict[str, Any]:
    """The messages as the model will read them, tools included: for counting tokens."""
    template = str(engine.ready.get("template", ""))
    if not job.tools or job.tool_choice == "none":
        return {**_texts(job.messages), "template_args": job.template_args}
    return _prompt(job, format_of(template), template)


def _prompt(job: ChatJob, form: ToolFormat, template: str) -> dict[str, Any]:
    asked = {**_texts(job.messages), "template_args": job.template_args}
    if form.native:
        return {**asked, "tools": native_tools(job.tools)}
    return {**asked, "messages": with_instructions(asked["messages"], job.tools, template)}


async def _repair(
    engine: Engine, job: ChatJob, form: ToolFormat, template: str, written: str, error: ToolCallInvalid
) -> tuple[list[ToolCall], Usage]:
    """One more try, told what was wrong; raises ``ToolCallInvalid`` when that is wrong too."""
    told = [
        *job.messages,
        {"role": "assistant", "content": written},
        {"role": "user", "content": f"That tool call is invalid: {error.message}. Write the corrected call."},
    ]
    choice = job.tool_choice if job.tool_choice.startswith("=") else "required"
    again = replace(job, messages=told, tool_choice=choice)
    text, done = "", None
    async with aclosing(generate(engine, frame_of(again, form, template, lazy=False))) as events:
        async for event in events:
            if isinstance(event, Done):
                done = event
            else:
                text += event.text
    assert done is not None
    if done.reason != "stop":
        raise error
    reader = CallReader(form, started=True)
    reader.push(text)
    reader.finish()
    return read_calls(form, reader.calls_text, {t["name"]: t for t in job.tools}), done.usage


@dataclass
class CallReader:
    """Splits the answer into the text before the first call and the calls."""

    form: ToolFormat
    started: bool = False
    calls_text: str = ""
    _held: str = ""
    _before: str = field(default="")

    def push(self, text: str) -> str:
        """Text that is certainly not part of a call."""
        if self.started:
            self.calls_text += text
            return ""
        text = self._held + text
        at = text.find(self.form.open)
        if at >= 0 and not (self.form.at_start and (self._before + text[:at]).strip()):
            self.started, self.calls_text, self._held = True, text[at:], ""
            return text[:at].rstrip() if text[:at].strip() else ""
        keep = 0 if self.form.at_start and self._before.strip() else possible_start(text, (self.form.open,))
        self._held = text[len(text) - keep :] if keep else ""
        shown = text[: len(text) - keep]
        self._before = (self._before + shown)[:64]
        return shown

    def finish(self) -> str:
        held, self._held = self._held, ""
        return held


def read_calls(form: ToolFormat, written: str, tools: dict[str, dict[str, Any]]) -> list[ToolCall]:
    """Parse and check; raises ``ToolCallInvalid``."""
    calls = []
    for index, body in enumerate(_bodies(form, written)):
        name, arguments = body.get("name"), body.get(form.arguments_key)
        tool = tools.get(name) if isinstance(name, str) else None
        if tool is None or not isinstance(arguments, dict):
            raise invalid(f"there is no tool {name!r}" if tool is None else f"the arguments of {name} are no object")
        if wrong := problems(arguments, tool["parameters"]):
            raise invalid(f"the arguments of {name} do not fit its schema: {'; '.join(wrong)}")
        calls.append(ToolCall(f"call_{secrets.token_hex(12)}", index, str(name), arguments))
    if not calls:
        raise invalid("there is no call in it")
    return calls


def _bodies(form: ToolFormat, written: str) -> list[dict[str, Any]]:
    if form.as_list:
        found = _json(written.strip().removeprefix(form.open))
        bodies = found if isinstance(found, list) else [found]
    elif form.opener_is_json:
        bodies = [_json(written)]
    else:
        parts = [p.partition(form.close)[0] for p in written.split(form.open)[1:]]
        bodies = [_json(p) for p in parts]
    if not all(isinstance(b, dict) for b in bodies):
        raise invalid("a call is no object")
    return bodies


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise invalid("it is not JSON") from None


def invalid(why: str) -> ToolCallInvalid:
    return ToolCallInvalid(
        f"the model wrote a tool call that is invalid: {why}", remedy="ask again, or use a larger model"
    )
