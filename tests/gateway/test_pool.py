"""Spare sandboxes, and what becomes of a client's own: over processes in place of containers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.gateway import Gateway
from gateway.pool import unstamped
from harbourmaster.core.errors import RefusedError
from harbourmaster.core.settings import Settings
from harbourmaster.up import report
from tests.gateway.harness import Http, World, enveloped, locked, rpc, serving, tool_call, until

Serve = Callable[..., AbstractAsyncContextManager[tuple[Gateway, Http]]]


@pytest.fixture
def serve(settings: Settings, world: World) -> Serve:
    @asynccontextmanager
    async def serve(**changes: Any) -> AsyncIterator[tuple[Gateway, Http]]:
        wanted = {"pool_spares": 2, "sandbox_wait_s": 5.0, **changes}
        async with serving(settings.model_copy(update=wanted), world) as pair:
            yield pair

    return serve


class Denied(RefusedError):
    code = "admission.denied"


def text(reply: Any) -> str:
    return str(reply["result"]["content"][0]["text"])


def code(reply: Any) -> str:
    return str(reply["error"]["data"]["code"])


async def called(http: Http, session: str, name: str = "counter", **arguments: Any) -> Any:
    return await http.call(session, "tools/call", tool_call(name, arguments))


async def who(http: Http, session: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(text(await called(http, session, "whoami")))
    return said


async def status(http: Http) -> dict[str, Any]:
    found: dict[str, Any] = (await http.request("GET", "/admin/status")).json
    return found


def spares(gateway: Gateway) -> int:
    return sum(spare.ready for spare in gateway.leases.pool)


async def one_spare(gateway: Gateway) -> None:
    await until(lambda: spares(gateway) >= 1, "a spare")


async def test_the_second_client_of_a_kind_finds_a_sandbox_that_is_ready(serve: Serve, world: World) -> None:
    async with serve() as (gateway, http):
        first = await http.initialize()
        mine = (await who(http, first))["pid"]
        await one_spare(gateway)
        waiting = {box.process.pid for box in world.started} - {mine}
        second = await http.initialize()
        assert (await who(http, second))["pid"] in waiting
        assert text(await called(http, second)) == "1"
        counters = (await status(http))["pool"]["counters"]
        assert (counters["cold_starts"], counters["warm_hits"]) == (1, 1)
        assert counters["spares_made"] >= 1


async def test_a_sandbox_that_served_a_client_is_never_another_s(serve: Serve, world: World) -> None:
    async with serve() as (gateway, http):
        seen = set()
        for _ in range(4):
            session = await http.initialize()
            seen.add((await who(http, session))["pid"])
            assert text(await called(http, session)) == "1", "no other client's count"
            await http.request("DELETE", Mcp_Session_Id=session)
            await until(lambda: len(gateway.leases) == 0)
        assert len(seen) == 4


async def test_a_spare_goes_only_to_a_client_that_can_do_what_the_server_was_told(serve: Serve) -> None:
    async with serve() as (gateway, http):
        await called(http, await http.initialize())
        await one_spare(gateway)
        able = await http.initialize(capabilities={"elicitation": {}})
        assert (await who(http, able))["hello"]["capabilities"] == {"elicitation": {}}
        older = await http.initialize("2025-06-18")
        assert (await who(http, older))["hello"]["protocolVersion"] == "2025-06-18"
        plain = await http.initialize()
        assert (await who(http, plain))["hello"]["capabilities"] == {}
        counters = (await status(http))["pool"]["counters"]
        assert (counters["cold_starts"], counters["warm_hits"]) == (3, 1)


async def test_what_a_server_says_before_its_client_comes_is_kept_for_it(serve: Serve, world: World) -> None:
    """A server that asks for roots at once must not be answered in a client's name, nor wait for minutes."""
    world.servers = {"alpha": locked("alpha", run={"command": ["--curious"]})}
    async with serve() as (gateway, http):
        capabilities = {"roots": {}}
        for number in range(3):
            session = await http.initialize(capabilities=capabilities)
            async with http.events("GET", Mcp_Session_Id=session) as following:
                call = asyncio.create_task(called(http, session))
                assert (await following())["params"]["data"] == "hello"
                asked = await following()
                assert asked["method"] == "roots/list"
                answer = {"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": [{"uri": f"file:///{number}"}]}}
                await http.request(body=answer, Mcp_Session_Id=session)
                await call
            assert (await who(http, session))["hello"]["roots"] == {"roots": [{"uri": f"file:///{number}"}]}
            await until(lambda: any(spare.ready and not spare.nobody.asked for spare in gateway.leases.pool))
        assert gateway.leases.counters["warm_hits"] >= 1


async def test_spares_end_when_nobody_comes(serve: Serve, world: World) -> None:
    async with serve(sandbox_idle_s=0.4) as (gateway, http):
        session = await http.initialize()
        await called(http, session)
        await one_spare(gateway)
        await http.request("DELETE", Mcp_Session_Id=session)
        await until(lambda: world.running == 0, "the end of the last spare")


async def test_a_spare_made_with_an_old_secret_or_an_old_image_is_not_used(serve: Serve, world: World) -> None:
    async with serve(pool_spares=1) as (gateway, http):
        await called(http, await http.initialize())
        for change in ("secret", "image"):
            await one_spare(gateway)
            (old,) = (spare.upstream.sandbox_id for spare in gateway.leases.pool)
            if change == "secret":
                world.secrets = "rotated"
            else:
                world.servers["alpha"] = locked("alpha", image_id="sha256:" + "7" * 64)
                world.changed = dict(world.servers)
                await until(lambda: gateway.index.servers["alpha"] == world.servers["alpha"])
            session = await http.initialize()
            assert f"process-{(await who(http, session))['pid']}" != old
            await until(lambda: all(b.process.returncode is not None for b in world.started if b.id == old))  # noqa: B023


async def test_a_spare_of_a_server_that_may_not_run_any_more_ends(serve: Serve, world: World) -> None:
    async with serve() as (gateway, http):
        session = await http.initialize()
        await called(http, session)
        await one_spare(gateway)
        world.refuse = Denied("no longer")
        gateway._admissions.forget()
        assert code(await called(http, session)) == "admission.denied"
        await until(lambda: world.running == 0)


async def test_a_spare_that_dies_is_replaced_and_harms_nobody(serve: Serve, world: World) -> None:
    async with serve() as (gateway, http):
        session = await http.initialize()
        mine = (await who(http, session))["pid"]
        await one_spare(gateway)
        for box in world.started:
            if box.process.pid != mine:
                os.kill(box.process.pid, signal.SIGKILL)
        await until(lambda: spares(gateway) == 0)
        other = await http.initialize()
        assert text(await called(http, other)) == "1"


async def test_a_client_that_comes_back_finds_what_it_used_before_the_restart(serve: Serve) -> None:
    async with serve() as (_, http):
        await called(http, await http.initialize())
    async with serve() as (gateway, http):
        assert spares(gateway) == 0, "nothing runs for a client that is not there"
        session = await http.initialize()
        await one_spare(gateway)
        await called(http, session)
        assert gateway.leases.counters["warm_hits"] == 1


# -- a client's own sandbox


async def test_a_session_s_sandbox_outlives_the_idle_time(serve: Serve, world: World) -> None:
    async with serve(sandbox_idle_s=0.1, pool_spares=0) as (gateway, http):
        session = await http.initialize()
        await called(http, session)
        for _ in range(3):
            gateway.leases.sweep(asyncio.get_running_loop().time() + 1000)
        assert text(await called(http, session)) == "2", "what the server remembers is the session's"


async def test_a_session_whose_sandbox_made_room_is_told_once(serve: Serve, world: World) -> None:
    async with serve(pool_memory_mb=1, pool_spares=0) as (gateway, http):
        session = await http.initialize()
        await called(http, session)
        gateway.leases.sweep(asyncio.get_running_loop().time() + 60)
        await until(lambda: world.running == 0)
        told = await called(http, session)
        assert code(told) == "sandbox.evicted"
        assert "remedy" in told["error"]["data"]
        assert text(await called(http, session)) == "1"
        assert gateway.leases.counters["evictions"] == 1


async def test_a_server_that_died_between_two_calls_is_not_replaced_in_silence(serve: Serve, world: World) -> None:
    async with serve(pool_spares=0) as (_, http):
        session = await http.initialize()
        await called(http, session)
        world.started[0].process.kill()
        await until(lambda: world.running == 0)
        assert code(await called(http, session)) == "gateway.server_exited"
        assert text(await called(http, session)) == "1"


async def test_who_finds_no_place_waits_for_one(serve: Serve, world: World) -> None:
    async with serve(max_sandboxes=1, pool_spares=0) as (gateway, http):
        one, two = await http.initialize(), await http.initialize()
        slow = asyncio.create_task(called(http, one, "slow", seconds=0.3))
        await until(lambda: any(lease.busy and lease.ready for lease in gateway.leases))
        assert text(await called(http, two)) == "1"
        assert text(await slow) == "done"
        assert world.running == 1
        assert code(await called(http, one)) == "sandbox.evicted"


async def test_one_server_does_not_take_every_place(serve: Serve, world: World) -> None:
    world.servers = {name: locked(name) for name in ("alpha", "beta")}
    async with serve(max_sandboxes_per_server=1, sandbox_wait_s=0.1, pool_spares=0) as (gateway, http):
        one, two = await http.initialize(), await http.initialize()
        hanging = asyncio.create_task(http.call(one, "tools/call", tool_call("alpha__hang"), request_id="h"))
        await until(lambda: any(lease.busy and lease.ready for lease in gateway.leases))
        reply = await called(http, two, "alpha__counter")
        assert (reply["error"]["code"], code(reply)) == (-32012, "gateway.too_many_sandboxes")
        assert "max_sandboxes_per_server" in reply["error"]["data"]["remedy"]
        assert text(await called(http, two, "beta__counter")) == "1"
        await http.request("DELETE", Mcp_Session_Id=one)
        await hanging


async def test_a_queue_that_is_full_refuses_at_once(serve: Serve) -> None:
    async with serve(max_sandboxes=1, sandbox_queue=0, sandbox_wait_s=60, pool_spares=0) as (gateway, http):
        one, two = await http.initialize(), await http.initialize()
        hanging = asyncio.create_task(http.call(one, "tools/call", tool_call("hang"), request_id="h"))
        await until(lambda: any(lease.busy and lease.ready for lease in gateway.leases))
        assert code(await called(http, two)) == "gateway.too_many_sandboxes"
        await http.request("DELETE", Mcp_Session_Id=one)
        await hanging


# -- what an entry may say


async def test_an_ephemeral_server_gets_a_fresh_sandbox_for_every_call(serve: Serve, world: World) -> None:
    world.servers = {"alpha": locked("alpha", run={"ephemeral": "call"})}
    async with serve() as (gateway, http):
        session = await http.initialize()
        assert [text(await called(http, session)) for _ in range(3)] == ["1", "1", "1"]
        await one_spare(gateway)
        pids = {(await who(http, session))["pid"] for _ in range(2)}
        assert len(pids) == 2
        await until(lambda: len(gateway.leases) == 0)
        assert gateway.leases.counters["warm_hits"] >= 1
        assert code(await called(http, session, "crash")) == "gateway.server_exited"


async def test_a_call_that_asks_its_client_keeps_its_ephemeral_sandbox_until_it_ends(
    serve: Serve, world: World
) -> None:
    world.servers = {"alpha": locked("alpha", run={"ephemeral": "call"})}
    async with serve(pool_spares=0) as (gateway, http):
        body = tool_call("elicit")
        asked = (await modern(http, body)).json["result"]
        assert asked["resultType"] == "input_required"
        gateway.leases.sweep(asyncio.get_running_loop().time() + 30)
        (key,) = asked["inputRequests"]
        body["inputResponses"] = {key: {"action": "accept", "content": {"name": "Grace"}}}
        body["requestState"] = asked["requestState"]
        assert "Grace" in text((await modern(http, body)).json)
        await until(lambda: world.running == 0)


async def test_clients_share_a_stateless_server_and_hear_only_of_their_own_calls(serve: Serve, world: World) -> None:
    world.servers = {"alpha": locked("alpha", run={"stateless": True})}
    async with serve(pool_spares=0) as (gateway, http):
        one, two = await http.initialize(capabilities={"elicitation": {}}), await http.initialize()
        seen = [await who(http, session) for session in (one, two)]
        assert seen[0]["pid"] == seen[1]["pid"]
        assert seen[0]["hello"]["capabilities"] == {}, "nobody can be asked on behalf of all"
        refused = await called(http, one, "elicit")
        assert "cannot ask" in text(refused)
        await http.request("DELETE", Mcp_Session_Id=one)
        assert (await who(http, two))["pid"] == seen[0]["pid"]
        gateway.leases.sweep(asyncio.get_running_loop().time() + 1000)
        await until(lambda: world.running == 0)
        assert text(await called(http, two)) == "1", "nothing was lost, so nothing is told"


async def test_a_shared_server_with_many_calls_gets_company(serve: Serve, world: World) -> None:
    world.servers = {"alpha": locked("alpha", run={"stateless": True})}
    async with serve(pool_spares=0) as (_, http):
        sessions = [await http.initialize() for _ in range(8)]
        await called(http, sessions[0])
        slow = [asyncio.create_task(called(http, session, "slow", seconds=0.3)) for session in sessions]
        await until(lambda: world.running > 1)
        assert [text(await reply) for reply in slow] == ["done"] * 8


async def test_a_client_that_leaves_takes_its_call_out_of_a_shared_server(serve: Serve, world: World) -> None:
    world.servers = {"alpha": locked("alpha", run={"stateless": True})}
    async with serve(pool_spares=0) as (_, http):
        one, two = await http.initialize(), await http.initialize()
        hanging = asyncio.create_task(called(http, one, "hang"))
        await until(lambda: world.running == 1)
        await called(http, two)
        await http.request("DELETE", Mcp_Session_Id=one)
        assert code(await hanging) == "gateway.call_cancelled"
        assert len(json.loads(text(await called(http, two, "last_cancelled")))) == 1


# -- crashes


async def test_a_call_that_may_be_repeated_is_when_its_server_crashes(serve: Serve, tmp_path: Path) -> None:
    async with serve(pool_spares=0) as (gateway, http):
        session = await http.initialize()
        assert text(await called(http, session, "flaky", mark=str(tmp_path / "a"))) == "well again"
        assert gateway.leases.counters["retries"] == 1
        other = await http.initialize()
        assert code(await called(http, other, "fragile", mark=str(tmp_path / "b"))) == "gateway.server_exited"


async def test_a_call_is_not_repeated_where_the_server_has_forgotten_something(serve: Serve, tmp_path: Path) -> None:
    async with serve(pool_spares=0) as (_, http):
        session = await http.initialize()
        await called(http, session)
        assert code(await called(http, session, "flaky", mark=str(tmp_path / "a"))) == "gateway.server_exited"
        assert text(await called(http, session, "flaky", mark=str(tmp_path / "a"))) == "well again"


# -- what the operator sees


async def test_only_an_operator_sees_the_status(serve: Serve) -> None:
    async with serve() as (gateway, http):
        token = gateway.tokens.create("someone")
        other = Http(http.port, token)
        for path in ("/admin/status", "/admin/events"):
            refused = await other.request("GET", path)
            assert (refused.status, refused.json["error"]["data"]["code"]) == (403, "admin.scope")
            assert (await http.request("GET", path, Authorization=None)).status == 401
        assert (await http.request("POST", "/admin/status", body={})).status == 405
        assert (await http.request("GET", "/admin/else")).status == 404


async def test_the_status_tells_sessions_leases_and_places(serve: Serve) -> None:
    async with serve(pool_spares=0) as (_, http):
        session = await http.initialize()
        await called(http, session)
        seen = await status(http)
        (client,) = seen["sessions"]
        assert (client["principal"], client["client"]["name"], client["servers"]) == ("default", "raw", ["alpha"])
        (lease,) = seen["leases"]
        assert (lease["server"], lease["kind"], lease["session"]) == ("alpha", "session", client["session"])
        assert (seen["pool"]["sandboxes"], seen["pool"]["waiting"]) == (1, 0)
        assert session not in json.dumps(seen), "a session id is a secret"


async def test_hm_status_shows_the_pool(serve: Serve, settings: Settings) -> None:
    async with serve(pool_spares=0) as (_, http):
        await called(http, await http.initialize())
        seen = await asyncio.to_thread(report.pool, settings.model_copy(update={"gateway_port": http.port}))
        assert (seen["sandboxes"], seen["sessions"], seen["counters"]["cold_starts"]) == (1, 1, 1)
    assert await asyncio.to_thread(report.pool, settings.model_copy(update={"gateway_port": http.port})) == {}


async def test_whoever_watches_hears_what_happens(serve: Serve) -> None:
    async with serve(pool_spares=0) as (gateway, http):
        reader, writer = await http.open(
            "\r\n".join(["GET /admin/events HTTP/1.1", *(f"{k}: {v}" for k, v in http.headers().items()), "", ""])
        )
        await until(lambda: bool(gateway.happenings.listeners))
        session = await http.initialize()
        await called(http, session, "echo", secret="hunter2")
        heard = []
        while len(heard) < 2:
            line = await reader.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: {"):
                heard.append(json.loads(line[6:]))
        assert [h["event"] for h in heard] == ["lease.cold", "call"]
        assert heard[1]["tool"] == "echo"
        assert "hunter2" not in json.dumps(heard)
        writer.close()
        await until(lambda: not gateway.happenings.listeners)


async def modern(http: Http, params: dict[str, Any]) -> Any:
    body = rpc("tools/call", enveloped(params, {"elicitation": {}}))
    routing = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": params["name"]}
    return await http.request(body=body, **routing)


async def test_where_nobody_can_tell_whether_secrets_changed_a_server_that_has_some_has_no_spares(
    settings: Settings, world: World
) -> None:
    world.servers = {"alpha": locked("alpha", run={"secrets": [{"name": "key", "env": "KEY"}]})}
    world.stamp = unstamped  # type: ignore[method-assign]
    async with serving(settings.model_copy(update={"pool_spares": 2}), world) as (gateway, http):
        await called(http, await http.initialize())
        gateway.leases.sweep(asyncio.get_running_loop().time())
        assert list(gateway.leases.pool) == []
