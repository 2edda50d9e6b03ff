"""How models write tool calls, told from their chat templates; and how to ask those whose template knows no tools."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from runner.grammar.nodes import EMPTY, SPACE, Grammar, Node, Repeat, choice, seq
from runner.grammar.schema import add_schema, finish

MAX_CALLS = 8  # in one answer, when parallel calls are wanted


@dataclass(frozen=True)
class ToolFormat:
    """``open`` begins a call (or, with ``as_list``, all of them); ``native``: the template renders tools and calls itself."""

    name: str
    open: str
    close: str
    arguments_key: str = "arguments"
    as_list: bool = False
    at_start: bool = False  # ``open`` means a call only at the start of the answer
    native: bool = True

    @property
    def opener_is_json(self) -> bool:
        return self.open == "{"


TAGGED = ToolFormat("tagged", "<tool_call>", "</tool_call>")  # Hermes, Qwen, Granite 3.3 and many others
MISTRAL = ToolFormat("mistral", "[TOOL_CALLS]", "", as_list=True)
LLAMA = ToolFormat("llama", "{", "", arguments_key="parameters", at_start=True)  # Llama 3.1 and later
GENERIC = ToolFormat("generic", "<tool_call>", "</tool_call>", native=False)


def format_of(template: str) -> ToolFormat:
    """A template whose own format is none of these gets the generic one, its own tool support unused."""
    if "tools" not in template:
        return GENERIC
    if "<tool_call>" in template and "<function=" not in template and "<arg_key>" not in template:
        return TAGGED
    if "[TOOL_CALLS]" in template and "[ARGS]" not in template:
        return MISTRAL
    if "<|python_tag|>" in template or ('"parameters"' in template and "<|eot_id|>" in template):
        return LLAMA
    return GENERIC


def grammar_of_calls(form: ToolFormat, tools: list[dict[str, Any]], *, parallel: bool, after_open: bool) -> str:
    """GBNF of one or more calls of ``tools``; ``after_open``: what follows the first opener, which is already written.

    Schemas are kept as far as a grammar can; the rest is the validator's.  Raises ``SchemaImpossible``.
    """
    grammar = Grammar()
    grammar.rules["root"] = EMPTY  # taken, so that no rule of a schema gets the name
    members = choice([_members(grammar, form, tool) for tool in tools])
    grammar.rules["root"] = _section(form, members, MAX_CALLS - 1 if parallel else 0, after_open=after_open)
    return finish(grammar)


def _section(form: ToolFormat, members: Node, more: int, *, after_open: bool) -> Node:
    if form.opener_is_json:
        return members if after_open else seq("{", members)
    call = seq("{", members)
    if form.as_list:
        rest = seq(SPACE, "[", call, Repeat(seq(",", SPACE, call), 0, more), "]")
        return rest if after_open else seq(form.open, rest)
    one = seq(SPACE, call, SPACE, form.close)
    others = Repeat(seq(SPACE, form.open, one), 0, more) if more else EMPTY
    return seq(one, others) if after_open else seq(form.open, one, others)


def _members(grammar: Grammar, form: ToolFormat, tool: dict[str, Any]) -> Node:
    """What follows the brace of a call."""
    name = json.dumps(tool["name"], ensure_ascii=False)
    arguments = add_schema(grammar, _object(tool["parameters"]), strict=False)
    return seq(f'"name": {name}, "{form.arguments_key}": ', arguments, "}")


def _object(schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments are an object even where a schema forgets to say so."""
    return schema if "type" in schema or "$ref" in schema or "anyOf" in schema else {**schema, "type": "object"}


# -- asking


def native_tools(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "function", "function": tool} for tool in tools]


def with_instructions(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]], template: str
) -> list[dict[str, Any]]:
    """Messages for a template that knows no tools: the tools in the system message, calls and results as text."""
    listing = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    instructions = (
        "You can call these tools:\n<tools>\n" + listing + "\n</tools>\n"
        "To call a tool, answer with nothing but\n"
        '<tool_call>\n{"name": "the tool\'s name", "arguments": {...}}\n</tool_call>\n'
        "Results come back between <tool_response> and </tool_response>. Answer in plain text when no tool is needed."
    )
    written = [_as_text(m) for m in messages]
    if "system" not in template:
        return _merge([{"role": "user", "content": instructions}, *written])
    if written and written[0]["role"] == "system":
        return _merge([{"role": "system", "content": f"{written[0]['content']}\n\n{instructions}"}, *written[1:]])
    return _merge([{"role": "system", "content": instructions}, *written])


def _as_text(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] in ("tool", "function"):
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    calls = [
        f"<tool_call>\n{json.dumps({'name': f['name'], 'arguments': f['arguments']}, ensure_ascii=False)}\n</tool_call>"
        for f in (c["function"] for c in message.get("tool_calls", []))
    ]
    content = "\n".join([*([message["content"]] if message["content"] else []), *calls])
    return {"role": message["role"], "content": content}


def _merge(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Templates may insist on turns: neighbours of one role become one message."""
    merged: list[dict[str, Any]] = []
    for message in messages:
        if merged and merged[-1]["role"] == message["role"] != "system":
            merged[-1] = {**merged[-1], "content": f"{merged[-1]['content']}\n{message['content']}"}
        else:
            merged.append(message)
    return merged
