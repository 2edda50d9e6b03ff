"""What a call within ``mcp-exec`` or a script may take: the limits of a call from outside, and its client's end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.dynamic.code import CODE_RUNNER
from gateway.gateway import Gateway
from harbourmaster.core.settings import Settings
from tests.gateway.harness import Http, World, enveloped, locked, rpc, serving, tool_call, until
from tests.gateway.test_code_mode import RUNNER, CodeWorld
from tests.gateway.test_dynamic_http import call


@pytest.fixture
def world() -> World:
    world = CodeWorld({"alpha": locked("alpha")})
    world.options = {"dynamic": True, "code": lambda: RUNNER}
    return world


async def execute(http: Http, session: str, name: str, **arguments: Any) -> Any:
    given = tool_call("mcp-exec", {"name": name, "arguments": arguments})
    return await http.call(session, "tools/call", given)


def code(reply: Any) -> str:
    return str(reply["error"]["data"]["code"])


async def test_an_inner_call_has_the_time_of_any_call(settings: Settings, world: World) -> None:
    async with serving(settings.model_copy(update={"call_timeout_s": 0.3}), world) as (gateway, http):
        session = await http.initialize()
        assert code(await execute(http, session, "hang")) == "gateway.call_timeout"
        assert (await execute(http, session, "counter"))["result"]["content"][0]["text"] == "1"
        assert not any(lease.upstream.pending for lease in gateway.leases)


async def test_an_inner_call_has_the_sizes_of_any_call(settings: Settings, world: World) -> None:
    small = {"max_result_bytes": 2000, "max_arguments_bytes": 1500}
    async with serving(settings.model_copy(update={"interceptors": small}), world) as (_, http):
        session = await http.initialize()
        assert code(await execute(http, session, "echo", text="x" * 2000)) == "limit.arguments"
        assert code(await execute(http, session, "echo", text="x" * 1300)) == "limit.result"
        script = 'call("echo", {"text": "x" * 2000})'
        failed = await call(http, session, "mcp-code", script=script)
        assert "may have 1500" in failed["structuredContent"]["error"]


async def test_inner_calls_count_against_the_caller_s_limits(settings: Settings, world: World) -> None:
    limited = settings.model_copy(update={"gateway_limits": ({"server": "alpha", "per_minute": 1, "burst": 2},)})
    async with serving(limited, world) as (_, http):
        session = await http.initialize()
        assert "result" in await execute(http, session, "counter")
        script = 'print(call("counter"))\nprint(call("counter"))'
        done = await call(http, session, "mcp-code", script=script)
        assert done["structuredContent"]["output"] == "2\n"
        assert "ToolError" in done["structuredContent"]["error"]


async def test_a_client_that_vanishes_takes_its_script_and_its_calls_with_it(
    gateway: Gateway, http: Http, world: World
) -> None:
    params = tool_call("mcp-code", {"script": 'call("counter")\ncall("hang")'})
    routing = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "mcp-code"}
    async with http.events(body=rpc("tools/call", enveloped(params)), **routing):
        await until(lambda: any(r["tool"] == "counter" for r in world.calls()), "the script's first call")
        await until(lambda: waiting(gateway) == 2, "the script, and the call that hangs")
    await until(lambda: waiting(gateway) == 0, "the end of both")
    await until(lambda: not any(lease.server.name == CODE_RUNNER for lease in gateway.leases))
    await until(lambda: {"hang", "mcp-code"} <= {r["tool"] for r in world.calls() if r["outcome"] == "cancelled"})


def waiting(gateway: Gateway) -> int:
    return sum(len(lease.upstream.pending) for lease in gateway.leases)


async def test_many_scripts_at_once_end_one_by_one_and_leave_nothing(
    gateway: Gateway, http: Http, world: World
) -> None:
    session = await http.initialize()

    async def one(number: int) -> Any:
        params = tool_call("mcp-code", {"script": f'result([{number}, call("echo", {{"n": {number}}})])'})
        return await http.call(session, "tools/call", params, number)

    replies = await asyncio.gather(*(one(number) for number in range(1, 7)))
    found = [reply["result"]["structuredContent"]["result"] for reply in replies]
    assert found == [[number, {"n": number}] for number in range(1, 7)]
    await until(lambda: world.running == 1, "the end of all scripts but their client's own sandbox")
