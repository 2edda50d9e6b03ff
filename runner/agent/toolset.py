"""The tools of one run: which there are, what may be asked of them, and what a model's call means.  Pure."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from runner.agent.events import Call, Tool
from runner.errors import RequestInvalid
from runner.grammar.validate import problems

Fixed = Mapping[str, Mapping[str, Any]]  # tool -> argument -> the value it has in every call


def select(tools: Iterable[Tool], patterns: Sequence[str] = (), fixed: Fixed | None = None) -> list[Tool]:
    """Those that ``patterns`` name (``*`` and ``?`` as in file names; none: all), with ``fixed`` arguments.

    Raises ``RequestInvalid`` for a pattern or a fixed argument that fits no tool: a typing error must not widen a run.
    """
    tools = list(tools)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(t.name, pattern) for t in tools):
            raise RequestInvalid(f"no tool is named {pattern}", remedy=_known(tools), param="tools")
    chosen = [t for t in tools if not patterns or any(fnmatch.fnmatchcase(t.name, p) for p in patterns)]
    for name in fixed or {}:
        if name not in {t.name for t in chosen}:
            raise RequestInvalid(f"no tool is named {name}", remedy=_known(chosen), param="set")
    return [_fix(t, (fixed or {}).get(t.name, {})) for t in chosen]


def _known(tools: list[Tool]) -> str:
    names = ", ".join(t.name for t in tools[:20])
    return f"tools here: {names}{', ...' if len(tools) > 20 else ''}" if names else "the gateway serves no tools"


def _fix(tool: Tool, values: Mapping[str, Any]) -> Tool:
    if not values:
        return tool
    properties = tool.parameters.get("properties")
    properties = dict(properties) if isinstance(properties, dict) else {}
    for name, value in values.items():
        if name not in properties:
            raise RequestInvalid(
                f"{tool.name} has no argument {name}", remedy=f"it has: {', '.join(properties)}", param="set"
            )
        properties[name] = {"const": value}
    required = list(dict.fromkeys([*tool.parameters.get("required", []), *values]))
    return replace(tool, parameters={**tool.parameters, "properties": properties, "required": required})


def make_call(call_id: str, name: str, text: str) -> Call:
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError):
        arguments = None
    return Call(call_id, name, text, arguments if isinstance(arguments, dict) else None)


def objection(call: Call, tools: Mapping[str, Tool]) -> str:
    """Why ``call`` cannot be carried out; empty if it can."""
    tool = tools.get(call.name)
    if tool is None:
        return f"there is no tool named {call.name}"
    if call.arguments is None:
        return f"the arguments of {call.name} are no JSON object"
    if wrong := problems(call.arguments, tool.parameters):
        return f"the arguments of {call.name} do not fit its schema: {'; '.join(wrong)}"
    return ""


# -- messages (OpenAI's shape)


def calls_message(text: str, calls: Sequence[Call]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            # What is no JSON must not go back as JSON: servers refuse the conversation for it.
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments or {})}}
            for c in calls
        ]
    return message


def result_message(call: Call, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call.id, "content": text}


def add_message(messages: list[dict[str, Any]], message: dict[str, Any]) -> None:
    """At the end; a result behind its call and that call's other results, where templates look for it."""
    at = len(messages)
    if message["role"] == "tool":
        while at and not any(c["id"] == message["tool_call_id"] for c in messages[at - 1].get("tool_calls", [])):
            at -= 1
        while 0 < at < len(messages) and messages[at]["role"] == "tool":
            at += 1
    messages.insert(at or len(messages), message)


def answered(messages: Sequence[dict[str, Any]], note: str, *, but: Sequence[str] = ()) -> list[dict[str, Any]]:
    """``messages`` with ``note`` as the result of every call that has none (``but`` those), right behind the call."""
    known = {m.get("tool_call_id") for m in messages if m["role"] == "tool"} | set(but)
    whole: list[dict[str, Any]] = []
    for message in messages:
        whole.append(message)
        for call in message.get("tool_calls", []):
            if call["id"] not in known:
                whole.append({"role": "tool", "tool_call_id": call["id"], "content": note})
    return whole
