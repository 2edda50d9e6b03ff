"""Tasks of either era: calls whose answer is fetched later, and what a client may ask about."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.gateway import Gateway
from harbourmaster.core.settings import Settings
from policies.authorization import CallPolicies, builtin_files
from tests.gateway import backend, jobs
from tests.gateway.harness import (
    Http,
    ProcessSandbox,
    Response,
    World,
    enveloped,
    locked,
    rpc,
    serving,
    tool_call,
    until,
)
from tests.gateway.jobs import EXTENSION, OPTIONS

ABLE = {"extensions": {EXTENSION: {}}, "elicitation": {"form": {}, "url": {}}}
TASK = {"ttl": 60_000}


class JobWorld(World):
    async def start(self, server: Any, admitted: Any, on_line: Any, on_exit: Any) -> ProcessSandbox:
        argv = [sys.executable, "-S", "-E", str(Path(jobs.__file__)), "--name", server.name, *server.run["command"]]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, limit=1 << 24)
        box = ProcessSandbox(process, on_line, on_exit)
        self.started.append(box)
        return box


def worker(name: str, *, modern: bool = False, **run: Any) -> Any:
    command = [*(["--modern"] if modern else []), OPTIONS]
    return locked(name, jobs.listing(name, modern=modern), run={"command": command, **run})


@pytest.fixture
def world() -> World:
    return JobWorld({"old": worker("old"), "new": worker("new", modern=True)})


async def modern(http: Http, method: str, params: Any, able: Any = ABLE, **changes: str | None) -> Response:
    name = params.get("taskId", params.get("name"))
    routing = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": name, **changes}
    return await http.request(body=rpc(method, enveloped(params, able)), **routing)


async def begun(http: Http, session: str, tool: str = "old__job", **arguments: Any) -> str:
    """A task of a handshake client: its id."""
    reply = await http.call(session, "tools/call", tool_call(tool, arguments, task=TASK), "begin")
    task = reply["result"]["task"]
    assert (task["status"], task["ttl"]) == ("working", 60_000)
    return str(task["taskId"])


async def begun_modern(http: Http, tool: str = "new__job", **arguments: Any) -> str:
    result = (await modern(http, "tools/call", tool_call(tool, arguments))).json["result"]
    assert (result["resultType"], result["ttlMs"]) == ("task", 60_000)
    return str(result["taskId"])


def text(reply: Any) -> str:
    return str(reply["result"]["content"][0]["text"])


def code(reply: Any) -> str:
    return str(reply["error"]["data"]["code"])


# -- 2025-11-25


async def test_a_handshake_client_begins_a_task_looks_at_it_and_gets_its_result(http: Http, world: World) -> None:
    session = await http.initialize()
    name = await begun(http, session)
    statuses = [(await http.call(session, "tasks/get", {"taskId": name}, n))["result"]["status"] for n in (1, 2)]
    assert statuses == ["working", "completed"]
    result = (await http.call(session, "tasks/result", {"taskId": name}, 3))["result"]
    assert result["content"][0]["text"].startswith(f"{name} is done")
    assert (result["x-kept"], result["structuredContent"]) == (1, {"n": 1})
    assert result["_meta"] == {"io.modelcontextprotocol/related-task": {"taskId": name}}
    kept = [(r["server"], r["tool"], r["method"], r["outcome"]) for r in world.calls()]
    looks = [("old", "job", "tasks/get", "ok")] * 2
    assert kept == [("old", "job", "tools/call", "ok"), *looks, ("old", "job", "tasks/result", "ok")]


async def test_tasks_are_offered_in_the_words_of_each_era_and_only_where_a_server_has_them(
    http: Http, settings: Settings
) -> None:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}}
    said = (await http.request(body=rpc("initialize", hello))).json["result"]["capabilities"]
    assert said["tasks"] == {"cancel": {}, "requests": {"tools": {"call": {}}}}
    assert "extensions" not in said
    discovered = (await modern(http, "server/discover", {})).json["result"]["capabilities"]
    assert discovered["extensions"] == {EXTENSION: {}}
    assert "tasks" not in discovered
    async with serving(settings, JobWorld({"old": worker("old", ephemeral="call")})) as (_, plain):
        session = await plain.initialize()
        assert (await plain.call(session, "tasks/get", {"taskId": "x"}))["error"]["code"] == -32601
        assert (await modern(plain, "tasks/get", {"taskId": "x"})).json["error"]["code"] == -32601


async def test_progress_goes_on_after_the_answer_that_began_the_task(http: Http) -> None:
    session = await http.initialize()
    async with http.events("GET", Mcp_Session_Id=session, Accept="text/event-stream") as following:
        call = tool_call("old__job", {}, task=TASK, _meta={"progressToken": "mine"})
        name = (await http.call(session, "tools/call", call))["result"]["task"]["taskId"]
        await http.request(body=rpc("tasks/get", {"taskId": name}, 2), Mcp_Session_Id=session)
        # It is said while that request is answered, and so beside it or here
        again = await http.request(body=rpc("tasks/get", {"taskId": name}, 3), Mcp_Session_Id=session)
        seen = [e for e in again.events if e.get("method") == "notifications/progress"]
        told = seen[0] if seen else await following()
        assert (told["method"], told["params"]["progressToken"]) == ("notifications/progress", "mine")


async def test_a_task_is_cancelled_and_its_status_told(http: Http) -> None:
    session = await http.initialize()
    name = await begun(http, session)
    said = await http.call(session, "tasks/cancel", {"taskId": name}, 2)
    told, answer = said if isinstance(said, list) else (None, said)
    if told is None:  # not beside the answer: it waits for the standing stream
        async with http.events("GET", Mcp_Session_Id=session, Accept="text/event-stream") as following:
            told = await following()
    assert (told["method"], told["params"]["status"]) == ("notifications/tasks/status", "cancelled")
    assert answer["result"]["status"] == "cancelled"


async def test_a_task_that_asks_a_person_asks_while_its_result_is_fetched(http: Http) -> None:
    session = await http.initialize(capabilities={"elicitation": {}})
    name = await begun(http, session, ask=True)
    async with http.events(body=rpc("tasks/result", {"taskId": name}, 2), Mcp_Session_Id=session) as following:
        question = await following()
        assert question["params"]["_meta"]["io.modelcontextprotocol/related-task"] == {"taskId": name}
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"name": "Ada"}}}
        await http.request(body=answer, Mcp_Session_Id=session)
        assert "Ada" in text(await following())


async def test_a_list_of_tasks_is_not_offered(http: Http) -> None:
    session = await http.initialize()
    await begun(http, session)
    assert (await http.call(session, "tasks/list", {}, 2))["error"]["code"] == -32601


async def test_a_client_s_own_tasks_are_for_the_server_that_they_were_made_for(http: Http) -> None:
    """The other direction: the server wants a sample made in a task, and fetches it; nobody else can."""
    able = {"sampling": {}, "tasks": {"requests": {"sampling": {"createMessage": {}}}}}
    session = await http.initialize(capabilities=able)
    task = {"taskId": "mine", "status": "working", "createdAt": "", "lastUpdatedAt": "", "ttl": None}
    sample = {"role": "assistant", "content": {"type": "text", "text": "sure"}, "model": "m"}
    async with http.events(body=rpc("tools/call", tool_call("old__delegate")), Mcp_Session_Id=session) as following:
        for method, result in (("sampling/createMessage", {"task": task}), ("tasks/result", sample)):
            question = await following()
            assert question["method"] == method
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": result}
            await http.request(body=answer, Mcp_Session_Id=session)
        assert json.loads(text(await following())) == sample
    snoop = tool_call("old__snoop", {"taskId": "somebody-else-s"})
    assert "does not support tasks/get" in text(await http.call(session, "tools/call", snoop, 5))


# -- who may ask


async def test_a_task_is_known_to_the_client_that_began_it_alone(http: Http, gateway: Gateway) -> None:
    session = await http.initialize()
    name, newer = await begun(http, session), await begun_modern(http)
    other = Http(http.port, gateway.tokens.create("stranger"))
    for who, there in ((http, await http.initialize()), (other, await other.initialize())):
        for method in ("tasks/get", "tasks/result", "tasks/cancel"):
            assert (await who.call(there, method, {"taskId": name}))["error"]["code"] == -32602
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        assert (await modern(other, method, {"taskId": newer})).json["error"]["code"] == -32602
    for odd in (None, 7, [], {}, "", "x" * 5000):
        assert (await http.call(session, "tasks/get", {"taskId": odd}))["error"]["code"] == -32602
    assert (await http.call(session, "tasks/get", {"taskId": name}))["result"]["status"] == "working"


async def test_a_server_cannot_take_the_place_of_another_s_task(settings: Settings) -> None:
    async with serving(settings, JobWorld({"one": worker("one"), "two": worker("two")})) as (_, http):
        session = await http.initialize()
        await begun(http, session, "one__job", name="t")
        call = tool_call("two__job", {"name": "t"}, task=TASK)
        assert code(await http.call(session, "tools/call", call)) == "gateway.task_taken"
        assert text(await http.call(session, "tasks/result", {"taskId": "t"})).startswith("t is done")


async def test_policies_about_a_tool_hold_for_its_tasks(http: Http, gateway: Gateway) -> None:
    session = await http.initialize()
    name = await begun(http, session)
    own = '@id("own") forbid (principal, action == Action::"call", resource == Tool::"old/job");'
    gateway.decide_by(CallPolicies((*builtin_files(), ("own", own))))
    assert code(await http.call(session, "tasks/result", {"taskId": name})) == "auth.denied"


async def test_a_person_is_asked_for_the_call_and_not_for_every_look(http: Http, gateway: Gateway) -> None:
    own = (
        '@id("own") @approval("client") @reason("r") @remedy("m")\n'
        'forbid (principal, action == Action::"call", resource == Tool::"old/job");'
    )
    gateway.decide_by(CallPolicies((*builtin_files(), ("own", own))))
    session = await http.initialize(capabilities={"elicitation": {}})
    body = rpc("tools/call", tool_call("old__job", {}, task=TASK))
    async with http.events(body=body, Mcp_Session_Id=session) as following:
        question = await following()
        properties = question["params"]["requestedSchema"]["properties"]
        yes = {"action": "accept", "content": dict.fromkeys(properties, True)}
        await http.request(body={"jsonrpc": "2.0", "id": question["id"], "result": yes}, Mcp_Session_Id=session)
        name = (await following())["result"]["task"]["taskId"]
    assert (await http.call(session, "tasks/get", {"taskId": name}))["result"]["status"] == "working"


# -- how long


async def test_a_sandbox_is_kept_for_its_task_and_let_go_afterwards(http: Http, gateway: Gateway) -> None:
    name = await begun_modern(http)
    (lease,) = gateway.leases
    loop = asyncio.get_running_loop()
    gateway.leases.sweep(loop.time() + 10_000)
    assert len(gateway.leases) == 1, "it was idle, and had a task"
    await modern(http, "tasks/cancel", {"taskId": name})
    assert lease.upstream.tasks[name] < loop.time() + 301
    lease.upstream.tasks[name] = 0.0  # that time has passed
    gateway.leases.sweep(loop.time() + 10_000)
    assert len(gateway.leases) == 0


async def test_a_task_whose_server_died_is_lost_in_so_many_words(http: Http, world: World) -> None:
    session = await http.initialize()
    name, newer = await begun(http, session), await begun_modern(http)
    for box in world.started:
        box.process.kill()
    await until(lambda: world.running == 0)
    lost = await http.call(session, "tasks/get", {"taskId": name})
    assert code(lost) == "gateway.task_lost"
    assert (await http.call(session, "tasks/get", {"taskId": name}))["error"]["code"] == -32602
    assert code((await modern(http, "tasks/get", {"taskId": newer})).json) == "gateway.task_lost"


@pytest.mark.parametrize("run", [{"ephemeral": "call"}, {"stateless": True}])
async def test_a_sandbox_that_ends_with_the_call_or_is_shared_begins_no_task(settings: Settings, run: Any) -> None:
    world = JobWorld({"brief": worker("brief", **run), "new": worker("new", modern=True, **run), "old": worker("old")})
    async with serving(settings, world) as (_, http):
        session = await http.initialize()
        call = tool_call("brief__job", {}, task=TASK)
        assert json.loads(text(await http.call(session, "tools/call", call))) == {"at once": True, "task": None}
        assert json.loads(text((await modern(http, "tools/call", tool_call("new__job"))).json))["at once"] is True


# -- the extension of 2026-07-28


async def test_a_modern_client_s_call_becomes_a_task_when_the_server_wants_it(http: Http) -> None:
    name = await begun_modern(http)
    first, second = [(await modern(http, "tasks/get", {"taskId": name})).json["result"] for _ in range(2)]
    assert (first["status"], "result" in first) == ("working", False)
    assert second["status"] == "completed"
    assert second["result"]["x-kept"] == 1
    assert second["resultType"] == "complete"


async def test_a_task_s_questions_are_answered_by_an_update(http: Http) -> None:
    name = await begun_modern(http, ask=True)
    asked = (await modern(http, "tasks/get", {"taskId": name})).json["result"]
    assert (asked["status"], list(asked["inputRequests"])) == ("input_required", ["k"])
    answers = {"k": {"action": "accept", "content": {"name": "Ada"}}}
    update = {"taskId": name, "inputResponses": answers}
    assert (await modern(http, "tasks/update", update)).json["result"]["resultType"] == "complete"
    done = (await modern(http, "tasks/get", {"taskId": name})).json["result"]
    assert "Ada" in done["result"]["content"][0]["text"]


async def test_a_client_that_does_not_declare_the_extension_gets_answers_and_no_tasks(http: Http) -> None:
    plain = (await modern(http, "tools/call", tool_call("new__job"), {})).json
    assert json.loads(text(plain))["at once"] is True
    name = await begun_modern(http)
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        response = await modern(http, method, {"taskId": name}, {})
        error = response.json["error"]
        assert (response.status, error["code"]) == (400, -32021)
        assert error["data"] == {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}


@pytest.mark.parametrize("said", [None, "another"])
async def test_the_routing_header_of_a_task_repeats_its_id(http: Http, said: str | None) -> None:
    name = await begun_modern(http)
    response = await modern(http, "tasks/get", {"taskId": name}, **{"Mcp-Name": said})
    assert (response.status, response.json["error"]["code"]) == (400, -32020)


async def test_no_task_crosses_the_eras(http: Http) -> None:
    session = await http.initialize(capabilities=ABLE)
    for tool in ("new__job",):
        at_once = text(await http.call(session, "tools/call", tool_call(tool, {}, task=TASK)))
        assert json.loads(at_once) == {"at once": True, "task": None}
    crossed = (await modern(http, "tools/call", tool_call("old__job", {}, task=TASK))).json
    assert json.loads(text(crossed)) == {"at once": True, "task": None}


# -- what holds for results holds for those that come later


@pytest.mark.parametrize("value", [1, "one"])
async def test_a_result_that_comes_later_is_held_to_its_schema(http: Http, value: Any) -> None:
    session = await http.initialize()
    name = await begun(http, session, "old__promise", n=value)
    newer = await begun_modern(http, "new__promise", n=value)
    old = await http.call(session, "tasks/result", {"taskId": name})
    await modern(http, "tasks/get", {"taskId": newer})
    new = (await modern(http, "tasks/get", {"taskId": newer})).json
    if value == 1:
        assert old["result"]["structuredContent"] == new["result"]["result"]["structuredContent"] == {"n": 1}
    else:
        assert code(old) == code(new)
        assert "not what it promised" in old["error"]["message"]


async def test_a_task_that_mcp_exec_began_is_asked_about_directly(settings: Settings, world: World) -> None:
    world.options = {"dynamic": True}
    async with serving(settings, world) as (_, http):
        given = {"name": "new__job", "arguments": {}}
        result = (await modern(http, "tools/call", tool_call("mcp-exec", given))).json["result"]
        assert result["resultType"] == "task"
        assert (await modern(http, "tasks/get", {"taskId": result["taskId"]})).json["result"]["status"] == "working"


async def test_apps_are_offered_in_both_eras_where_a_server_brings_them(settings: Settings) -> None:
    """Their pages are resources, and their tools name them in ``_meta``: nothing else of them needs to cross."""
    apps = {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html"]}, "example/unknown": {}}
    said = backend.listing("alpha", capabilities={"tools": {}, "extensions": apps})
    async with serving(settings, World({"alpha": locked("alpha", said)})) as (_, http):
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}}
        offered = (await http.request(body=rpc("initialize", hello))).json["result"]["capabilities"]
        discovered = (await modern(http, "server/discover", {})).json["result"]["capabilities"]
        expected = {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html"]}}
        assert (offered["extensions"], discovered["extensions"]) == (expected, expected)


# -- addresses that a person must visit first (2025-11-25)


async def test_an_address_to_visit_is_an_error_to_a_handshake_client_and_a_question_to_a_modern_one(
    settings: Settings,
) -> None:
    async with serving(settings, JobWorld({"old": worker("old")})) as (_, http):
        session = await http.initialize(capabilities=ABLE)
        error = (await http.call(session, "tools/call", tool_call("visit")))["error"]
        assert (error["code"], error["data"]["elicitations"][0]["url"]) == (-32042, "https://as.example/go")
        said = await http.call(session, "tools/call", tool_call("visit"), 2)
        told, answer = said if isinstance(said, list) else (None, said)
        if told is None:
            async with http.events("GET", Mcp_Session_Id=session, Accept="text/event-stream") as following:
                told = await following()
        assert (told["method"], told["params"]) == ("notifications/elicitation/complete", {"elicitationId": "e-1"})
        assert json.loads(text(answer)) == {"left": []}

        asked = (await modern(http, "tools/call", tool_call("visit"))).json["result"]
        assert asked["resultType"] == "input_required"
        ((key, question),) = asked["inputRequests"].items()
        assert (question["method"], question["params"]["mode"]) == ("elicitation/create", "url")
        again = tool_call("visit", requestState=asked["requestState"], inputResponses={key: {"action": "accept"}})
        assert json.loads(text((await modern(http, "tools/call", again)).json)) == {"left": []}


async def test_a_person_who_does_not_visit_the_address_gets_no_call_made(settings: Settings) -> None:
    world = JobWorld({"old": worker("old")})
    async with serving(settings, world) as (_, http):
        asked = (await modern(http, "tools/call", tool_call("visit"))).json["result"]
        no = tool_call("visit", requestState=asked["requestState"], inputResponses={"address-1": {"action": "decline"}})
        assert code((await modern(http, "tools/call", no)).json) == "gateway.input_declined"


async def test_a_client_that_shows_no_addresses_gets_the_server_s_error(settings: Settings) -> None:
    async with serving(settings, JobWorld({"old": worker("old")})) as (_, http):
        error = (await modern(http, "tools/call", tool_call("visit"), {"elicitation": {"form": {}}})).json["error"]
        assert error["code"] == -32042
