"""OpenAI's Responses API with OpenAI's own Python client, a real model, and a real gateway for `mcp` tools."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
import pytest

from gateway.serve import bind, http_server
from harbourmaster.core.settings import Settings
from runner.api.responses.servers import ToolServers
from runner.errors import ToolServerRefused
from tests.gateway import backend
from tests.gateway.harness import Http, World, locked, running, until
from tests.runner.conftest import Server, quiet_port, serve
from tests.runner.sure import NO_CHOICE, SURE, WRITE
from tests.runner.test_openai_client import WEATHER

FLAT = {"type": "function", **WEATHER["function"], "strict": False}
QUESTION = "What is a container?"
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS = [  # their schemas leave the model no room: whatever it writes is a right call
    backend.tool("counter", inputSchema=NOTHING),
    backend.tool("fail", inputSchema=NOTHING),
    backend.tool("hang", inputSchema=NOTHING),
    backend.tool("whoami", inputSchema=NOTHING, annotations={"readOnlyHint": True}),
]


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as c:
        yield c


@pytest.mark.slow
def test_a_response_answers_with_text_and_usage(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="ai/smollm2", input=QUESTION, max_output_tokens=16, temperature=0)
    assert answer.object == "response"
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.output_text
    assert answer.usage.output_tokens == 16
    assert answer.usage.total_tokens == answer.usage.input_tokens + 16
    [message] = answer.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")


@pytest.mark.slow
def test_the_stream_has_the_typed_events_in_order_and_the_same_text(client: openai.OpenAI) -> None:
    options = {"model": "smollm2", "input": SURE, "max_output_tokens": 12, "temperature": 0}
    whole = client.responses.create(**options)
    events = list(client.responses.create(**options, stream=True))
    kinds = [e.type for e in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete"
    ]  # fmt: skip
    assert [e.sequence_number for e in events] == list(range(len(events)))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == whole.output_text == events[-1].response.output_text
    with client.responses.stream(**options) as stream:
        for _ in stream:
            pass


@pytest.mark.slow
def test_instructions_and_former_responses_are_read(client: openai.OpenAI) -> None:
    options = {"model": "smollm2", "max_output_tokens": 4, "temperature": 0}
    first = client.responses.create(**options, input="My name is Ada.", instructions="Answer briefly.")
    second = client.responses.create(**options, input="What is my name?", previous_response_id=first.id)
    alone = client.responses.create(**options, input="What is my name?")
    assert second.usage.input_tokens > alone.usage.input_tokens
    assert second.previous_response_id == first.id
    assert client.responses.retrieve(first.id).output_text == first.output_text
    [item] = client.responses.input_items.list(first.id).data
    assert item.content[0].text == "My name is Ada."
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(**options, input="And now?", previous_response_id=first.id)


@pytest.mark.slow
def test_a_function_is_called_by_the_client_and_its_output_goes_on(client: openai.OpenAI) -> None:
    options = {"model": "smollm2", "tools": [FLAT], "temperature": 0, "max_output_tokens": 120}
    first = client.responses.create(**options, input="Weather in Paris?", tool_choice="required")
    assert first.status == "completed"
    [call] = first.output
    assert (call.type, call.name, call.status) == ("function_call", "get_weather", "completed")
    assert json.loads(call.arguments)["city"] in ("Paris", "Rome")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    for history in (
        {"input": [result], "previous_response_id": first.id},
        {"input": [{"role": "user", "content": "Weather in Paris?"}, call.to_dict(), result]},
    ):
        second = client.responses.create(**options, **history, tool_choice="none")
        assert second.output[0].type == "message"
    events = list(client.responses.create(**options, input="Weather in Paris?", tool_choice="required", stream=True))
    [done] = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert json.loads(done.arguments)["city"] in ("Paris", "Rome")
    assert events[-1].response.output[0].arguments == done.arguments


@pytest.mark.slow
def test_arguments_that_leave_no_choice_are_the_same_streaming_or_not(client: openai.OpenAI) -> None:
    tool = {"type": "function", "name": "write", "parameters": WRITE, "strict": False}
    options = {"model": "smollm2", "input": QUESTION, "tools": [tool], "tool_choice": "required"}
    [call] = client.responses.create(**options).output
    events = list(client.responses.create(**options, stream=True))
    [done] = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert done.arguments == call.arguments == events[-1].response.output[0].arguments
    assert json.loads(call.arguments) == NO_CHOICE


@pytest.mark.slow
def test_a_text_format_holds(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"size": {"enum": ["small", "large"]}}, "required": ["size"]}
    answer = client.responses.create(
        model="smollm2", input=QUESTION, max_output_tokens=40,
        text={"format": {"type": "json_schema", "name": "thing", "schema": schema}},
    )  # fmt: skip
    assert json.loads(answer.output_text)["size"] in ("small", "large")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", [{"type": "item_reference", "id": "x"}]),
        ("input", [{"type": "function_call_output", "call_id": "c", "output": "x"}]),
        ("tools", [{"type": "web_search"}]),
        ("tools", [{"type": "mcp", "server_label": "x", "connector_id": "connector_gmail"}]),
        ("tools", [{"type": "mcp", "server_label": "harbourmaster", "headers": {"Host": "elsewhere"}}]),
        ("tool_choice", "required"),
        ("truncation", "auto"),
        ("background", True),
        ("max_output_tokens", 0),
        ("text", {"format": {"type": "xml"}}),
    ],
)
def test_what_is_not_supported_is_refused_by_name(client: openai.OpenAI, field: str, value: Any) -> None:
    body = {"model": "smollm2", "input": QUESTION, field: value}
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**body)
    assert refused.value.param == ("response_format" if field == "text" else field)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_an_over_long_prompt_is_refused_before_anything_streams(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="smollm2", input="word " * 9000, stream=stream)
    assert refused.value.code == "context_length_exceeded"


# -- tools of a gateway


@dataclass(frozen=True)
class App:
    """An app's client of a runner whose operator allowed one gateway, that gateway, and what it saw."""

    client: openai.AsyncOpenAI
    http: Http
    world: World

    async def ask(self, *, stream: bool = False, more: Any = None, **tool: Any) -> Any:
        tools = [mcp(self.http, **tool)]
        return await self.client.responses.create(
            **{**ASKED, "tools": tools, "tool_choice": "required", **(more or {})}, stream=stream
        )


@pytest.fixture(scope="module")
def allowing(server: Server) -> Iterator[tuple[str, int]]:
    """A runner that may use the gateway on a port; both."""
    port = quiet_port()
    allowed = {"dock": f"http://127.0.0.1:{port}/mcp", "gone": f"http://127.0.0.1:{quiet_port()}/mcp"}
    with serve(server.home, HM_RUNNER_GATEWAYS=json.dumps(allowed), HM_GATEWAY_PORT=str(port)) as runner:
        yield runner.url, port


@pytest.fixture
async def app(allowing: tuple[str, int], settings: Settings) -> AsyncIterator[App]:
    """The gateway's servers are subprocesses of the harness: sandboxes have their test in test_agent_live."""
    url, port = allowing
    listing = backend.listing("alpha", tools=TOOLS)
    command = [json.dumps({"tools": TOOLS})]
    world = World({"alpha": locked("alpha", listing, run={"command": command})})
    async with running(settings, world) as gateway:
        token = gateway.tokens.default()
        async with (
            http_server(gateway, settings, bind("127.0.0.1", port)),
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        ):
            yield App(client, Http(port, token), world)


def mcp(http: Http, **more: Any) -> dict[str, Any]:
    return {"type": "mcp", "server_label": "dock", "authorization": http.token, "require_approval": "never", **more}


ASKED: dict[str, Any] = {"model": "smollm2", "input": "Count.", "temperature": 0, "max_output_tokens": 100}


@pytest.mark.slow
@pytest.mark.parametrize("named", ["label", "address", "own"])
async def test_an_app_gets_the_gateway_s_tools_without_code(app: App, named: str) -> None:
    label = {
        "label": {"server_label": "dock"},
        "address": {"server_label": "mine", "server_url": app.http.url},
        "own": {"server_label": "harbourmaster"},
    }[named]
    choice = {"type": "mcp", "server_label": label["server_label"], "name": "counter"}
    answer = await app.ask(**label, allowed_tools=["counter"], more={"tool_choice": choice})
    listed, call, *_rest = answer.output
    assert (listed.type, [t.name for t in listed.tools]) == ("mcp_list_tools", ["counter"])
    assert (call.type, call.status, call.output, call.error) == ("mcp_call", "completed", "1", None)
    assert [(c["tool"], c["outcome"]) for c in app.world.calls()] == [("counter", "ok")]
    assert app.http.token not in answer.to_json()
    assert answer.status in ("completed", "incomplete")


@pytest.mark.slow
async def test_calls_are_streamed_as_typed_events(app: App) -> None:
    events = [e async for e in await app.ask(stream=True, allowed_tools=["counter"])]
    order = [
        "response.created", "response.mcp_list_tools.completed", "response.mcp_call.in_progress",
        "response.mcp_call_arguments.done", "response.mcp_call.completed",
    ]  # fmt: skip
    assert [e.type for e in events if e.type in order] == order
    assert events[-1].response.output[1].output == "1"
    assert [e.sequence_number for e in events] == list(range(len(events)))


@pytest.mark.slow
async def test_a_tool_s_error_is_an_error_of_its_call(app: App) -> None:
    answer = await app.ask(allowed_tools=["fail"])
    call = answer.output[1]
    assert (call.status, call.error.type) == ("failed", "mcp_tool_execution_error")
    assert call.error.content == [{"type": "text", "text": "no"}]


@pytest.mark.slow
async def test_a_call_waits_for_an_approval_where_none_was_waived(app: App) -> None:
    asked = await app.ask(allowed_tools=["counter"], require_approval="always")
    request = asked.output[-1]
    assert request.type == "mcp_approval_request"
    assert app.world.calls() == []
    answer = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
    more = {"input": [answer], "previous_response_id": asked.id, "tool_choice": "none"}
    done = await app.ask(allowed_tools=["counter"], require_approval="always", more=more)
    call = next(i for i in done.output if i.type == "mcp_call")
    assert (call.output, call.approval_request_id) == ("1", request.id)
    more["input"] = [{**answer, "approve": False, "reason": "not now"}]
    refused = await app.ask(allowed_tools=["counter"], require_approval="always", more=more)
    assert "mcp_call" not in [i.type for i in refused.output]
    assert len(app.world.calls()) == 1


@pytest.mark.slow
async def test_an_approval_of_a_tool_that_is_not_allowed_any_more_calls_nothing(app: App) -> None:
    asked = await app.ask(allowed_tools=["counter"], require_approval="always")
    answer = {"type": "mcp_approval_response", "approval_request_id": asked.output[-1].id, "approve": True}
    more = {"input": [answer], "previous_response_id": asked.id, "tool_choice": "none"}
    done = await app.ask(allowed_tools=["fail"], more=more)
    call = next(i for i in done.output if i.type == "mcp_call")
    assert (call.status, call.error.type) == ("failed", "mcp_protocol_error")
    assert app.world.calls() == []


@pytest.mark.slow
async def test_tools_that_only_read_can_be_let_through_alone(app: App) -> None:
    answer = await app.ask(allowed_tools={"read_only": True}, require_approval={"never": {"read_only": True}})
    assert [t.name for t in answer.output[0].tools] == ["whoami"]
    assert answer.output[1].type == "mcp_call"


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        {"server_label": "unknown"},
        {"server_label": "dock", "server_url": "http://169.254.169.254/latest/meta-data"},
        {"server_label": "dock", "server_url": "http://127.0.0.1:1/mcp"},
    ],
)
async def test_other_servers_are_refused(app: App, place: dict[str, str]) -> None:
    with pytest.raises(openai.PermissionDeniedError) as refused:
        await app.ask(**place)
    assert refused.value.code == "runner.tool_server_refused"


@pytest.mark.slow
@pytest.mark.parametrize(("label", "token"), [("dock", "wrong"), ("dock", ""), ("gone", "x")])
async def test_a_gateway_that_refuses_or_is_away_fails_the_request(app: App, label: str, token: str) -> None:
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as failed:
            await app.ask(stream=stream, server_label=label, authorization=token)
        assert failed.value.status_code == 424
    assert app.world.calls() == []


@pytest.mark.slow
async def test_names_that_clash_or_are_not_there_are_refused(app: App) -> None:
    clash = [mcp(app.http, allowed_tools=["counter"]), {"type": "function", "name": "counter"}]
    unknown = {"type": "mcp", "server_label": "dock", "name": "nothing"}
    for more in ({"tools": clash}, {"tool_choice": unknown}):
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as refused:
                await app.ask(stream=stream, more=more)
            assert refused.value.param in ("tools", "tool_choice")


@pytest.mark.slow
async def test_a_client_that_goes_away_ends_the_call_that_runs_for_it(app: App) -> None:
    body = {**ASKED, "tools": [mcp(app.http, allowed_tools=["hang"])], "tool_choice": "required", "stream": True}
    async with (
        httpx2.AsyncClient(timeout=30) as raw,
        raw.stream("POST", f"{app.client.base_url}responses", json=body) as response,
    ):
        async for line in response.aiter_lines():
            if line == "event: response.mcp_call_arguments.done":
                break
    await until(lambda: any(c["outcome"] != "ok" for c in app.world.calls()), "the end of the call")


# -- which servers


OWN = "http://127.0.0.1:8811/mcp"
SERVERS = ToolServers({"harbourmaster": OWN, "other": "https://tools.example/mcp"})


@pytest.mark.parametrize(
    ("label", "url", "found"),
    [
        ("harbourmaster", "", OWN),
        ("any", OWN, OWN),
        ("any", f"{OWN}/", OWN),
        ("any", f"{OWN}/work", f"{OWN}/work"),
        ("any", "https://TOOLS.example:443/mcp", "https://tools.example/mcp"),
    ],
)
def test_a_server_is_found_by_its_label_or_its_address(label: str, url: str, found: str) -> None:
    assert SERVERS.find(label, url) == found


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8811", "http://127.0.0.1:8811/", "http://127.0.0.1:8812/mcp", "https://127.0.0.1:8811/mcp",
        "http://localhost:8811/mcp", "http://127.0.0.1:8811/mcp/../admin", "http://127.0.0.1:8811/mcp/a/b",
        "http://127.0.0.1:8811/mcp/..", "http://127.0.0.1:8811/mcp?x=1", "http://127.0.0.1:8811/mcp#x",
        "http://user@127.0.0.1:8811/mcp", "http://127.0.0.1:8811@evil.example/mcp", "http://evil.example/mcp",
        "http://127.0.0.1:8811/mcp\r\nX: y", "http://127.0.0.1:99999/mcp", "file:///etc/passwd", "//127.0.0.1:8811/mcp",
        "https://tools.example/mcp/work", "https://tools.example.evil/mcp", "http://[::1/mcp", "\u217bttp://127.0.0.1:8811/mcp",
    ],
)  # fmt: skip
def test_any_other_address_is_refused(url: str) -> None:
    with pytest.raises(ToolServerRefused):
        SERVERS.find("harbourmaster", url)


def test_the_gateway_s_token_is_lent_only_to_the_own_gateway_and_only_when_the_operator_said_so(
    settings: Settings,
) -> None:
    settings.secrets_dir.mkdir(parents=True)
    rows = [{"name": "default", "token": "hm_secret", "sha256": "x"}]
    settings.tokens_file.write_text(json.dumps({"version": 1, "tokens": rows}))
    assert ToolServers.of(settings).lent_token(OWN) == ""
    lends = ToolServers.of(
        settings.model_copy(update={"runner_lends_token": True, "runner_gateways": {"x": "http://127.0.0.1:1/mcp"}})
    )
    assert lends.lent_token(OWN) == "hm_secret"
    assert lends.lent_token(f"{OWN}/work") == "hm_secret"
    assert lends.lent_token("http://127.0.0.1:1/mcp") == ""
    assert os.environ.get("HM_RUNNER_LENDS_TOKEN") is None
