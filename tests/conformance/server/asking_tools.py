"""Tools that need something from the client before they can answer."""

from __future__ import annotations

import json
from typing import Any

import mcp_types as types

from .asking import form, question, roots, sampling
from .content import said
from .shelf import Call, Shelf

asking = Shelf()

PROMPT = {"prompt": {"type": "string", "description": "What to ask the model"}}
MESSAGE = {"message": {"type": "string", "description": "What to show the person"}}
PERSON = {
    "username": {"type": "string", "description": "User's response"},
    "email": {"type": "string", "description": "User's email address"},
}
DEFAULTS = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}


def titled(*titles: str) -> list[dict[str, str]]:
    return [{"const": f"value{n}", "title": title} for n, title in enumerate(titles, start=1)]


OPTIONS = ["option1", "option2", "option3"]
ENUMS = {
    "untitledSingle": {"type": "string", "enum": OPTIONS},
    "titledSingle": {"type": "string", "oneOf": titled("First Option", "Second Option", "Third Option")},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": OPTIONS}},
    "titledMulti": {"type": "array", "items": {"anyOf": titled("First Choice", "Second Choice", "Third Choice")}},
}


def outcome(answer: dict[str, Any]) -> str:
    return f"action={answer.get('action')}, content={json.dumps(answer.get('content'))}"


@asking.tool("test_sampling", "Has the client's model answer", PROMPT, required=["prompt"])
async def test_sampling(call: Call) -> types.CallToolResult:
    answers = await call.client.ask({"sample": sampling(call.arguments["prompt"])})
    return said(f"LLM response: {answers['sample']['content'].get('text', '')}")


@asking.tool("test_elicitation", "Asks the person for a name and an address", MESSAGE, required=["message"])
async def test_elicitation(call: Call) -> types.CallToolResult:
    answers = await call.client.ask({"person": form(call.arguments["message"], PERSON, ["username", "email"])})
    return said(f"User response: {outcome(answers['person'])}")


@asking.tool("test_elicitation_sep1034_defaults", "Asks with a default for every kind of field")
async def test_defaults(call: Call) -> types.CallToolResult:
    answers = await call.client.ask({"form": form("Please look at the defaults", DEFAULTS, [])})
    return said(f"Elicitation completed: {outcome(answers['form'])}")


@asking.tool("test_elicitation_sep1330_enums", "Asks with every kind of choice")
async def test_enums(call: Call) -> types.CallToolResult:
    answers = await call.client.ask({"form": form("Please choose", ENUMS, [])})
    return said(f"Elicitation completed: {outcome(answers['form'])}")


@asking.tool("test_streaming_elicitation", "Reports progress, then asks for a name")
async def streaming_elicitation(call: Call) -> types.CallToolResult:
    await call.ctx.session.report_progress(1, 2)
    answers = await call.client.ask({"user_name": question("What is your name?", "name")})
    return said(outcome(answers["user_name"]))


@asking.tool("test_input_required_result_elicitation", "Greets the person by the name it asks for")
async def greet(call: Call) -> types.CallToolResult:
    answers = await call.client.ask({"user_name": question("What is your name?", "name")})
    return said(f"Hello, {(answers['user_name'].get('content') or {}).get('name', 'stranger')}!")


@asking.tool("test_input_required_result_sampling", "Asks the client's model for a capital")
async def capital(call: Call) -> types.CallToolResult:
    answers = await call.client.ask({"capital_question": sampling("What is the capital of France?")})
    return said(f"The model says: {answers['capital_question']['content'].get('text', '')}")


@asking.tool("test_input_required_result_list_roots", "Names the client's roots")
async def list_roots(call: Call) -> types.CallToolResult:
    answers = await call.client.ask({"client_roots": roots()})
    return said("Roots: " + ", ".join(root["uri"] for root in answers["client_roots"]["roots"]))


@asking.tool("test_input_required_result_request_state", "Asks for confirmation and hands out state to bring back")
async def request_state(call: Call) -> types.CallToolResult:
    await call.client.ask({"confirm": question("Please confirm", "ok", "boolean")}, with_state=True)
    return said("state-ok" if call.client.continued else "confirmed without state")


@asking.tool("test_input_required_result_tampered_state", "Hands out state that must come back as it was")
async def tampered_state(call: Call) -> types.CallToolResult:
    await call.client.ask({"confirm": question("Please confirm", "ok", "boolean")}, with_state=True)
    return said("The state is what it was")


@asking.tool("test_input_required_result_multiple_inputs", "Asks three things at once")
async def multiple_inputs(call: Call) -> types.CallToolResult:
    requests = {
        "user_name": question("What is your name?", "name"),
        "greeting": sampling("Generate a greeting", 50),
        "client_roots": roots(),
    }
    answers = await call.client.ask(requests, with_state=True)
    return said(json.dumps(answers))


@asking.tool("test_input_required_result_multi_round", "Asks one thing after the other")
async def multi_round(call: Call) -> types.CallToolResult:
    first = await call.client.ask({"step1": question("Step 1: What is your name?", "name")}, with_state=True)
    second = await call.client.ask({"step2": question("Step 2: What is your favorite color?", "color")})
    return said(json.dumps(first | second))


@asking.tool("test_input_required_result_capabilities", "Asks only what the client declared that it can answer")
async def capabilities(call: Call) -> types.CallToolResult:
    declared = call.ctx.session.client_capabilities or types.ClientCapabilities()
    possible = {
        "name": (declared.elicitation, question("What is your name?", "name")),
        "greeting": (declared.sampling, sampling("Generate a greeting", 50)),
        "places": (declared.roots, roots()),
    }
    requests = {key: request for key, (capability, request) in possible.items() if capability is not None}
    return said(json.dumps(await call.client.ask(requests)) if requests else "The client can answer nothing")
