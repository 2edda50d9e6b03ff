"""Every feature between clients and servers of either era: docs/conformance.md has the table that this file fills.

A cell is one test: the client's era, the server's era, the feature.  The server is on stdio; what HTTP adds is in
``test_remote_http.py``, ``test_remote_sse.py`` and the official suite.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.gateway import Gateway
from harbourmaster.core.settings import Settings
from tests.gateway import backend
from tests.gateway.harness import Http, World, enveloped, locked, rpc, serving, tool_call, until

FULL: dict[str, Any] = {"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {"listChanged": True}}
Answer = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass
class Said:
    """What a request came to.  ``told``: notifications before the answer; ``asked``: questions on the way."""

    reply: dict[str, Any] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def result(self) -> Any:
        assert "result" in self.reply, self.reply
        return self.reply["result"]

    @property
    def text(self) -> str:
        return str(self.result["content"][0]["text"])


class Person:
    """A client of one era; it answers what it is asked."""

    modern = False

    def __init__(self, http: Http, session: str = "") -> None:
        self.http = http
        self.session = session
        self._next = 10

    async def ask(self, method: str, params: Any = None, answer: Answer | None = None, **meta: Any) -> Said:
        self._next += 1
        return await self.exchange(method, params or {}, self._next, answer, meta)

    async def call(self, tool: str, arguments: Any = None, answer: Answer | None = None, **meta: Any) -> Said:
        return await self.ask("tools/call", tool_call(tool, arguments), answer, **meta)

    async def exchange(self, method: str, params: Any, number: int, answer: Answer | None, meta: Any) -> Said:
        raise TypeError("a client is of an era")

    @contextlib.asynccontextmanager
    async def posting(self, body: Any, **headers: str | None) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The messages of the response to a POST, JSON or events; leaving closes the connection."""
        raw = json.dumps(body).encode()
        lines = {"Content-Length": str(len(raw)), **self.http.headers(**headers)}
        head = "\r\n".join(["POST /mcp HTTP/1.1", *(f"{k}: {v}" for k, v in lines.items())]) + "\r\n\r\n"
        reader, writer = await self.http.open(head, raw)

        async def messages() -> AsyncIterator[dict[str, Any]]:
            answered = (await reader.readuntil(b"\r\n\r\n")).decode()
            if "application/json" in answered:
                length = int(answered.lower().split("content-length: ")[1].split("\r\n")[0])
                yield json.loads(await reader.readexactly(length))
                return
            while line := await reader.readline():
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])

        try:
            yield messages()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class Handshake(Person):
    async def exchange(self, method: str, params: Any, number: int, answer: Answer | None, meta: Any) -> Said:
        said = Said()
        if meta:
            params = {**params, "_meta": {**params.get("_meta", {}), **meta}}
        async with self.posting(rpc(method, params, number), Mcp_Session_Id=self.session) as messages:
            async for message in messages:
                if "method" not in message:
                    said.reply = message
                    break
                if "id" not in message:
                    said.told.append(message)
                    continue
                said.asked.append(message)
                assert answer is not None, message
                reply = {"jsonrpc": "2.0", "id": message["id"], **answer(message)}
                assert (await self.http.request(body=reply, Mcp_Session_Id=self.session)).status == 202
        return said


class Modern(Person):
    modern = True

    async def exchange(self, method: str, params: Any, number: int, answer: Answer | None, meta: Any) -> Said:
        said = Said()
        for round_ in range(5):
            body = rpc(method, enveloped(params, FULL, **meta), number + 1000 * round_)
            async with self.posting(body, **routing(method, params)) as messages:
                async for message in messages:
                    if "method" in message:
                        said.told.append(message)
                    else:
                        said.reply = message
                        break
            result = said.reply.get("result") or {}
            if result.get("resultType") != "input_required":
                return said
            said.asked += result["inputRequests"].values()
            assert answer is not None, result
            answers = {k: answer(q)["result"] for k, q in result["inputRequests"].items()}
            params = {**params, "inputResponses": answers, "requestState": result["requestState"]}
        raise AssertionError("it asks without end")


def routing(method: str, params: Any) -> dict[str, str | None]:
    name = params.get("name", params.get("uri"))
    return {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": name}


@dataclass
class Cell:
    client: Person
    server_modern: bool
    world: World
    gateway: Gateway


@pytest.fixture(params=["handshake-client", "modern-client"])
def client_era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["handshake-server", "modern-server"])
def server_era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def cell(settings: Settings, client_era: str, server_era: str) -> AsyncIterator[Cell]:
    modern = server_era == "modern-server"
    capabilities = backend.MODERN_CAPABILITIES
    world = World({"alpha": locked("alpha", backend.listing("alpha", modern=modern, capabilities=capabilities))})
    async with serving(settings, world) as (gateway, http):
        if client_era == "modern-client":
            yield Cell(Modern(http), modern, world, gateway)
        else:
            yield Cell(Handshake(http, await http.initialize(capabilities=FULL)), modern, world, gateway)


# -- what a server offers


async def test_tools_are_listed_and_called(cell: Cell) -> None:
    listed = (await cell.client.ask("tools/list")).result["tools"]
    assert listed == backend.TOOLS, "a field was lost, or a page"
    assert (await cell.client.call("echo", {"a": [1, None]})).result["structuredContent"] == {"a": [1, None]}


async def test_a_servers_error_keeps_code_and_data(cell: Cell) -> None:
    assert (await cell.client.call("rpc_error")).reply["error"] == {
        "code": -32099,
        "message": "odd",
        "data": {"x-made-up": [1]},
    }
    assert (await cell.client.call("fail")).result["isError"] is True


async def test_prompts_are_listed_and_filled(cell: Cell) -> None:
    assert (await cell.client.ask("prompts/list")).result["prompts"] == backend.PROMPTS
    got = (await cell.client.ask("prompts/get", {"name": "greet", "arguments": {"who": "Bo"}})).result
    assert got["messages"] == [{"role": "user", "content": {"type": "text", "text": "greet Bo"}}]


async def test_resources_are_listed_and_read(cell: Cell) -> None:
    assert (await cell.client.ask("resources/list")).result["resources"] == backend.RESOURCES
    read = (await cell.client.ask("resources/read", {"uri": "note://one"})).result
    assert read["contents"] == [{"uri": "note://one", "text": "alpha note://one"}]


async def test_resource_templates_are_listed_and_what_they_name_is_read(cell: Cell) -> None:
    assert (await cell.client.ask("resources/templates/list")).result["resourceTemplates"] == backend.TEMPLATES
    read = (await cell.client.ask("resources/read", {"uri": "note://by/ada"})).result
    assert read["contents"][0]["text"] == "alpha note://by/ada"


async def test_a_missing_resource_is_the_error_of_the_clients_era(cell: Cell) -> None:
    error = (await cell.client.ask("resources/read", {"uri": "note://gone"})).reply["error"]
    handshake_to_handshake = not cell.client.modern and not cell.server_modern
    assert error["code"] == (-32002 if handshake_to_handshake else -32602)


@pytest.mark.parametrize(
    "ref", [{"type": "ref/prompt", "name": "greet"}, {"type": "ref/resource", "uri": "note://by/{name}"}]
)
async def test_arguments_are_completed(cell: Cell, ref: dict[str, str]) -> None:
    asked = {"ref": ref, "argument": {"name": "who", "value": ""}}
    completion = (await cell.client.ask("completion/complete", asked)).result["completion"]
    assert completion == {"values": [ref.get("name") or ref["uri"]], "x-more": 1}


async def test_a_list_of_many_pages_is_whole(cell: Cell) -> None:
    """The server pages by five; the lock has all pages, and a client gets them as one."""
    listed = (await cell.client.ask("tools/list")).result
    assert len(listed["tools"]) == len(backend.TOOLS) > 5
    assert "nextCursor" not in listed
    assert (await cell.client.ask("tools/list", {"cursor": "2"})).reply["error"]["code"] == -32602


# -- content


async def test_images_audio_embedded_resources_and_links_arrive_as_they_were_sent(cell: Cell) -> None:
    assert (await cell.client.call("media")).result["content"] == backend.MEDIA


async def test_structured_content_arrives_beside_its_schema(cell: Cell) -> None:
    listed = {t["name"]: t for t in (await cell.client.ask("tools/list")).result["tools"]}
    assert listed["media"]["outputSchema"]["required"] == ["n"]
    assert (await cell.client.call("media")).result["structuredContent"] == {"n": 1, "x-made-up": [None]}


async def test_meta_passes_both_ways_without_the_envelope(cell: Cell) -> None:
    result = (await cell.client.call("echo", {}, **{"x-mine": {"deep": [1]}})).result
    seen = result["_meta"]["x-kept"]
    assert seen["x-mine"] == {"deep": [1]}
    assert ("io.modelcontextprotocol/protocolVersion" in seen) == cell.server_modern
    assert result["x-unknown"] == {"also": "kept"}


async def test_caching_hints_are_for_modern_clients_and_made_up_cautiously(cell: Cell) -> None:
    read = (await cell.client.ask("resources/read", {"uri": "note://one"})).result
    if not cell.client.modern:
        assert not {"ttlMs", "cacheScope", "resultType"} & read.keys()
    elif cell.server_modern:
        assert (read["ttlMs"], read["cacheScope"]) == (60000, "public")
    else:
        assert (read["ttlMs"], read["cacheScope"]) == (0, "private")


# -- while a call runs


async def test_progress_comes_with_the_clients_own_token(cell: Cell) -> None:
    said = await cell.client.call("progress", {}, progressToken="mine")
    steps = [m["params"] for m in said.told if m["method"] == "notifications/progress"]
    assert [(s["progressToken"], s["progress"], s["x-extra"]) for s in steps] == [
        ("mine", 1, "kept"),
        ("mine", 2, "kept"),
    ]


async def test_log_messages_come_at_the_level_that_was_asked_for(cell: Cell) -> None:
    if cell.client.modern:
        said = await cell.client.call("log", {"n": 1}, **{"io.modelcontextprotocol/logLevel": "warning"})
        quiet = await cell.client.call("log", {"n": 2})
        assert not [m for m in quiet.told if m["method"] == "notifications/message"]
    else:
        assert (await cell.client.ask("logging/setLevel", {"level": "warning"})).result == {}
        said = await cell.client.call("log", {"n": 1})
    logged = [m["params"] for m in said.told if m["method"] == "notifications/message"]
    assert {"level": "warning", "data": {"n": 1}} in logged


async def test_a_cancelled_call_is_cancelled_at_the_server(cell: Cell) -> None:
    await cell.client.call("echo")
    number = 500
    if isinstance(cell.client, Modern):
        params = tool_call("hang")
        body = rpc("tools/call", enveloped(params, FULL), number)
        async with cell.client.posting(body, **routing("tools/call", params)):
            await asyncio.sleep(0)  # leaving is how a modern client cancels
    else:
        asking = asyncio.create_task(cell.client.exchange("tools/call", tool_call("hang"), number, None, {}))
        calls = next(iter(cell.gateway.sessions)).calls
        await until(lambda: number in calls and calls[number].upstream is not None, "the call")
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
        await cell.client.http.request(body=cancel, Mcp_Session_Id=cell.client.session)
        assert (await asking).reply["error"]["code"] == -32800
    await until(lambda: any(c["outcome"] == "cancelled" for c in cell.world.calls()), "the end of the call")
    assert len(json.loads((await cell.client.call("last_cancelled")).text)) == 1


# -- the server asks the client


async def test_sampling(cell: Cell) -> None:
    reply = {"role": "assistant", "content": {"type": "text", "text": "sure"}, "model": "m", "x-made-up": 1}
    said = await cell.client.call("sample", {}, lambda question: {"result": reply})
    assert [q["method"] for q in said.asked] == ["sampling/createMessage"]
    assert said.asked[0]["params"]["maxTokens"] == 5
    assert "sure" in said.text
    assert "x-made-up" in said.text


FORM = {
    "mode": "form",
    "message": "Who?",
    "requestedSchema": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "default": "Ada", "x-made-up": True},
            "age": {"type": "integer", "default": 36},
            "colour": {"type": "string", "enum": ["r", "g"], "enumNames": ["Red", "Green"], "default": "g"},
            "titled": {"type": "string", "oneOf": [{"const": "a", "title": "A"}]},
            "many": {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}, "default": ["x"]},
        },
        "required": ["name"],
    },
}
URL = {"mode": "url", "message": "Sign in", "url": "https://as.example/go?x=1", "elicitationId": "e-1"}


@pytest.mark.parametrize("asked", [FORM, URL], ids=["form", "url"])
@pytest.mark.parametrize("action", ["accept", "decline"])
async def test_elicitation_keeps_defaults_enums_and_addresses(cell: Cell, asked: dict[str, Any], action: str) -> None:
    reply = {"action": action} | (
        {"content": {"name": "Bo", "many": ["y"]}} if (action, asked) == ("accept", FORM) else {}
    )
    arguments = {"method": "elicitation/create", "params": asked}
    said = await cell.client.call("ask", arguments, lambda question: {"result": reply})
    assert [q["params"] for q in said.asked] == [asked]
    heard = json.loads(said.text)
    heard.pop("state", None)
    assert heard == reply or heard.get("result") == reply


async def test_roots(cell: Cell) -> None:
    roots = {"roots": [{"uri": "file:///work", "name": "work"}]}
    said = await cell.client.call("roots", {}, lambda question: {"result": roots})
    assert [q["method"] for q in said.asked] == ["roots/list"]
    assert "file:///work" in said.text


async def test_changed_roots_are_told_where_both_eras_have_the_notification(cell: Cell) -> None:
    assert (await cell.client.call("counter")).text == "1"
    note = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
    headers = {"MCP-Protocol-Version": "2026-07-28"} if cell.client.modern else {"Mcp-Session-Id": cell.client.session}
    assert (await cell.client.http.request(body=note, **headers)).status == 202
    crosses = not cell.client.modern and not cell.server_modern
    assert (await cell.client.call("counter")).text == ("102" if crosses else "2")


# -- changes


@contextlib.asynccontextmanager
async def hearing(cell: Cell, uris: list[str]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """What the client hears unasked, of its lists and of ``uris``."""
    if isinstance(cell.client, Modern):
        wanted = {"toolsListChanged": True, "resourceSubscriptions": uris}
        params = enveloped({"notifications": wanted}, FULL)
        body = rpc("subscriptions/listen", params, 700)
        async with cell.client.posting(body, **routing("subscriptions/listen", params)) as messages:
            agreed = await anext(messages)
            assert agreed["params"]["notifications"] == wanted if uris else agreed
            yield messages
        return
    for uri in uris:
        assert (await cell.client.ask("resources/subscribe", {"uri": uri})).result == {}
    async with cell.client.http.events(
        "GET", Mcp_Session_Id=cell.client.session, Accept="text/event-stream"
    ) as following:

        async def messages() -> AsyncIterator[dict[str, Any]]:
            while True:
                yield await following()

        yield messages()


async def heard(messages: AsyncIterator[dict[str, Any]], method: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        async for message in messages:
            if message["method"] == method:
                return message
    raise AssertionError(f"{method} did not come")


async def test_a_subscription_hears_of_its_resource(cell: Cell) -> None:
    await cell.client.call("echo")
    async with hearing(cell, ["note://one"]) as messages:
        touched = await cell.client.call("touch", {"uri": "note://one"})
        beside = [m for m in touched.told if m["method"] == "notifications/resources/updated"]
        found = beside[0] if beside else await heard(messages, "notifications/resources/updated")
        assert found["params"]["uri"] == "note://one"


async def test_a_changed_list_is_told(cell: Cell) -> None:
    await cell.client.call("echo")
    async with hearing(cell, []) as messages:
        touched = await cell.client.call("touch")
        beside = [m for m in touched.told if m["method"] == "notifications/tools/list_changed"]
        assert beside or await heard(messages, "notifications/tools/list_changed")


# -- what belongs to one era of client


async def test_routing_headers_are_held_to_the_body_for_modern_clients_alone(cell: Cell) -> None:
    params = tool_call("echo")
    wrong = {**routing("tools/call", params), "Mcp-Name": "other"}
    if cell.client.modern:
        body = rpc("tools/call", enveloped(params, FULL))
        response = await cell.client.http.request(body=body, **wrong)
        assert (response.status, response.json["error"]["code"]) == (400, -32020)
    else:
        more = {"Mcp-Method": "other", "Mcp-Session-Id": cell.client.session}
        response = await cell.client.http.request(body=rpc("tools/call", params), **more)
        assert "result" in response.json, "an older client's headers mean nothing"
