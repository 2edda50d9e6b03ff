"""``mcp-code``: scripts that call tools.  The program as a process here; in its sandbox in test_code_sandbox.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.dynamic import code
from gateway.dynamic.code import CODE_RUNNER, LISTING, SOURCE, runner_server
from gateway.gateway import Gateway
from harbourmaster.core.digests import sha256
from harbourmaster.core.errors import NotFoundError
from harbourmaster.core.settings import Settings
from tests.gateway.harness import Admitted, Http, ProcessSandbox, World, locked, rpc, serving, tool_call, until
from tests.gateway.test_dynamic_http import call, modern
from tests.gateway.test_dynamic_http import code as code_of
from tests.gateway.test_profiles_http import write

RUNNER = runner_server(sha256(b"image"), sha256(b"id"), "")


class CodeWorld(World):
    """Also has the code runner, as a process."""

    def admit(self, name: str) -> Admitted:
        return Admitted(RUNNER.image, RUNNER.image_id) if name == CODE_RUNNER else super().admit(name)

    async def start(self, server: Any, admitted: Any, on_line: Any, on_exit: Any) -> ProcessSandbox:
        if server.name != CODE_RUNNER:
            return await super().start(server, admitted, on_line, on_exit)
        pipe = asyncio.subprocess.PIPE
        argv = [sys.executable, "-I", str(SOURCE)]
        process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, limit=1 << 24)
        box = ProcessSandbox(process, on_line, on_exit)
        self.started.append(box)
        return box


@pytest.fixture
def world() -> World:
    world = CodeWorld({"alpha": locked("alpha"), "beta": locked("beta")})
    world.options = {"dynamic": True, "code": lambda: RUNNER}
    return world


@pytest.fixture
async def served(settings: Settings, world: World) -> AsyncIterator[tuple[Gateway, Http]]:
    async with serving(settings.model_copy(update={"pool_spares": 0}), world) as pair:
        yield pair


async def run(http: Http, session: str, script: str, **more: Any) -> Any:
    return await call(http, session, "mcp-code", script=script, **more)


async def test_a_script_calls_tools_and_gives_back_what_it_printed_and_found(http: Http, world: World) -> None:
    session = await http.initialize()
    script = """
numbers = [int(call("alpha__counter")) for _ in range(3)]
print("counted", numbers)
both = call_all([("alpha__echo", {"n": 1}), ("beta__echo", {"n": 2})])
result({"sum": sum(numbers), "both": both})
"""
    body = (await run(http, session, script))["structuredContent"]
    assert body == {"output": "counted [1, 2, 3]\n", "result": {"sum": 6, "both": [{"n": 1}, {"n": 2}]}, "calls": 5}


async def test_each_call_of_a_script_is_recorded_like_one_of_the_client_s_own(http: Http, world: World) -> None:
    session = await http.initialize()
    await run(http, session, 'call("alpha__counter"); call("alpha__counter")')
    first, second, outer = world.calls()
    assert {(r["server"], r["tool"], r["outcome"]) for r in (first, second)} == {("alpha", "counter", "ok")}
    assert (outer["server"], outer["tool"], outer["outcome"]) == ("harbourmaster", "mcp-code", "ok")
    assert len({(r["session"], r["principal"]) for r in (first, second, outer)}) == 1


async def test_a_script_reaches_the_client_s_own_sandboxes_and_leaves_none_of_its_own(http: Http, world: World) -> None:
    session = await http.initialize()
    assert (await call(http, session, "mcp-exec", name="alpha__counter"))["content"][0]["text"] == "1"
    assert (await run(http, session, 'result(call("alpha__counter"))'))["structuredContent"]["result"] == "2"
    runner = world.started[1]
    await until(lambda: runner.process.returncode is not None, "the end of the script's sandbox")


async def test_what_a_caller_may_not_do_its_script_may_not_either(settings: Settings, world: World) -> None:
    folder = settings.home / "policies" / "calls"
    folder.mkdir(parents=True)
    (folder / "own.cedar").write_text(
        '@id("own.none") @reason("no") @remedy("stop")\n'
        'forbid (principal, action == Action::"call", resource) when { resource.name == "counter" };'
    )
    async with serving(settings, world) as (_, http):
        session = await http.initialize()
        script = """
for name in ("alpha__counter", "nobody", "mcp-exec", "mcp-code"):
    try:
        call(name)
    except ToolError as e:
        print(name, e)
"""
        output = (await run(http, session, script))["structuredContent"]["output"].splitlines()
        assert "may not use" in output[0]
        assert "Unknown tool" in output[1]
        assert "within another tool" in output[2]
        assert "within another tool" in output[3]
    assert [r["outcome"] for r in world.calls() if r["tool"] == "counter"] == ["refused"]


async def test_a_script_that_fails_says_where(http: Http) -> None:
    result = await run(http, await http.initialize(), "print(1)\nraise ValueError('no such ship')")
    assert result["isError"] is True
    assert result["structuredContent"]["output"] == "1\n"
    assert 'File "script", line 2' in result["structuredContent"]["error"]
    assert "no such ship" in result["structuredContent"]["error"]


async def test_a_script_has_so_many_calls_seconds_and_bytes(
    http: Http, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await http.initialize()
    monkeypatch.setattr(code, "CODE", code.CodeLimits(calls=3, output_bytes=1000))
    many = await run(http, session, 'for n in range(5):\n    print(call("alpha__counter"))')
    assert many["structuredContent"]["output"] == "1\n2\n3\n"
    assert "a script may make 3 calls" in many["structuredContent"]["error"]
    assert code_of(await run(http, session, "print('x' * 2000)")) == "dynamic.code_stopped"
    assert code_of(await run(http, session, "while True: pass", seconds=1)) == "dynamic.code_stopped"
    for bad in ({"script": ""}, {"script": 3}, {"script": "1", "seconds": 9999}):
        assert (await call(http, session, "mcp-code", **bad))["isError"] is True, bad
    await until(lambda: world.running == 1, "the end of all scripts")


async def test_a_script_that_breaks_its_own_wire_harms_nobody_else(http: Http, world: World) -> None:
    session = await http.initialize()
    assert code_of(await run(http, session, "import os; os._exit(3)")) == "gateway.server_exited"
    forged = """
import os
os.write(1, b'not json\\n{"jsonrpc":"2.0","id":99,"result":{}}\\n{"jsonrpc":"2.0","method":"sampling/createMessage","id":5}\\n')
os.write(1, b'{"jsonrpc":"2.0","id":"x","method":"harbourmaster/call","params":{"name":[],"arguments":7}}\\n')
result(1)
"""
    assert (await run(http, session, forged))["structuredContent"]["result"] == 1
    assert (await run(http, session, "result(2)"))["structuredContent"]["result"] == 2


async def test_a_cancelled_script_ends_with_its_calls(gateway: Gateway, http: Http, world: World) -> None:
    session = await http.initialize()
    script = tool_call("mcp-code", {"script": 'call("alpha__hang")'})
    hanging = asyncio.create_task(http.call(session, "tools/call", script, "h"))
    await until(lambda: any(lease.server.name == "alpha" and lease.upstream.pending for lease in gateway.leases))
    body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "h"}}
    await http.request(body=body, Mcp_Session_Id=session)
    assert (await hanging)["error"]["data"]["code"] == "gateway.call_cancelled"
    await until(lambda: not any(lease.server.name == CODE_RUNNER for lease in gateway.leases))
    await until(lambda: not any(lease.upstream.pending for lease in gateway.leases))


async def test_modern_clients_run_scripts_too(http: Http) -> None:
    done = await modern(http, "mcp-code", {"script": 'result(call("alpha__counter"))'})
    assert done["resultType"] == "complete"
    assert done["structuredContent"]["result"] == "1"


async def test_without_a_built_runner_the_tool_says_what_to_do_and_a_profile_can_do_without_it(
    settings: Settings, world: World
) -> None:
    def missing() -> Any:
        raise NotFoundError("no image")

    world.options["code"] = missing
    write(settings, "plain", {"dynamic": {"code": False}})
    async with serving(settings, world) as (_, http):
        assert code_of(await run(http, await http.initialize(), "1")) == "dynamic.code_unavailable"
        plain = http.at("plain")
        session = await plain.initialize()
        reply = await plain.call(session, "tools/call", tool_call("mcp-code", {"script": "1"}))
        assert reply["error"]["data"]["code"] == "gateway.unknown_tool"


async def test_the_program_lists_what_its_papers_say() -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-I", str(SOURCE), stdin=pipe, stdout=pipe)
    ask = b"".join(
        json.dumps(rpc(m, {"protocolVersion": "2025-11-25"})).encode() + b"\n" for m in ("initialize", "tools/list")
    )
    out, _ = await process.communicate(ask)
    hello, listed = (json.loads(line)["result"] for line in out.splitlines())
    assert {k: hello[k] for k in hello} == {k: LISTING[k] for k in ("protocolVersion", "capabilities", "serverInfo")}
    assert listed["tools"] == LISTING["tools"]
    with contextlib.suppress(ProcessLookupError):
        process.kill()
