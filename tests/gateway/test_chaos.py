"""What goes wrong around the gateway: nothing leaks, no other session notices, every call ends in an answer or an error."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import resource
import select
import socket
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.edges import patience
from gateway.gateway import Gateway
from harbourmaster.core.audit import tail, verify
from harbourmaster.core.audit_process import AuditProcess
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from tests.gateway.chaos import inner_world
from tests.gateway.harness import Http, World, rpc, serving, tool_call, until


def text(reply: Any) -> str:
    return str(reply["result"]["content"][0]["text"])


def code(reply: Any) -> str:
    return str(reply["error"]["data"]["code"])


async def called(http: Http, session: str, name: str = "counter", **arguments: Any) -> Any:
    return await http.call(session, "tools/call", tool_call(name, arguments))


class Neighbour:
    """Another session that calls all the time; its count shows whether it lost anything."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self.counts: list[int] = []

    async def __aenter__(self) -> Neighbour:
        self._session = await self._http.initialize()
        self.counts.append(int(text(await called(self._http, self._session))))
        self._task = asyncio.create_task(self._go_on())
        return self

    async def _go_on(self) -> None:
        while True:
            self.counts.append(int(text(await called(self._http, self._session))))
            await asyncio.sleep(0.01)

    async def __aexit__(self, *exc: Any) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        assert self.counts == list(range(1, len(self.counts) + 1))


def busy(gateway: Gateway) -> bool:
    return any(lease.upstream.pending for lease in gateway.leases)


# -- servers


async def test_a_server_that_is_killed_in_mid_call_ends_that_call_alone(http: Http, world: World, gateway: Any) -> None:
    async with Neighbour(http):
        session = await http.initialize()
        await called(http, session)
        call = asyncio.create_task(called(http, session, "hang"))
        await until(lambda: busy(gateway))
        world.started[-1].process.kill()
        assert code(await call) == "gateway.server_exited"
        assert text(await called(http, session)) == "1"


async def test_a_server_that_hangs_holds_up_nobody_else(settings: Settings, world: World) -> None:
    async with (
        serving(settings.model_copy(update={"call_timeout_s": 0.3}), world) as (_, http),
        Neighbour(http) as other,
    ):
        session = await http.initialize()
        replies = await asyncio.gather(*(called_as(http, session, n, "hang") for n in range(10)))
        assert {code(reply) for reply in replies} == {"gateway.call_timeout"}
        assert len(other.counts) > 3


async def called_as(http: Http, session: str, number: int, name: str) -> Any:
    return await http.call(session, "tools/call", tool_call(name), request_id=number)


async def test_a_server_that_writes_garbage_is_heard_by_nobody_else(http: Http) -> None:
    async with Neighbour(http):
        session = await http.initialize()
        for _ in range(20):
            assert text(await called(http, session, "garbage")) == "still here"


async def test_a_server_that_dies_at_every_call_leaves_nothing(settings: Settings) -> None:
    world = inner_world()
    async with serving(settings, world) as (gateway, http):
        session = await http.initialize()
        for _ in range(30):
            assert code(await called(http, session, "die")) == "gateway.server_exited"
        assert text(await called(http, session)) == "1"
        await until(lambda: world.running == 1)
        assert gateway.leases.places.taken == 1


# -- clients


async def test_clients_that_vanish_in_mid_call_leave_nothing(settings: Settings) -> None:
    world = inner_world()
    async with serving(settings.model_copy(update={"call_timeout_s": 1.0}), world) as (gateway, http):
        await called(http, await http.initialize())
        before = len(asyncio.all_tasks())
        for _ in range(20):
            session = await http.initialize()
            async with http.events("POST", rpc("tools/call", tool_call("hang")), Mcp_Session_Id=session):
                pass
            await http.request("DELETE", Mcp_Session_Id=session)
        await until(lambda: len(gateway.leases) == 1 and world.running == 1)
        await until(lambda: len(asyncio.all_tasks()) <= before, "the end of every task")
        assert sum(len(client.calls) for client in gateway.clients()) == 0


async def test_slow_headers_end_and_harm_nobody(
    settings: Settings, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "HEAD_S", 0.3)
    async with serving(settings, world) as (_, http), Neighbour(http):
        slow = [await http.open("POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ") for _ in range(50)]
        mute = [await http.open("") for _ in range(10)]
        drip, *silent = [*slow, *mute]
        trickle = asyncio.create_task(trickling(drip[1]))
        answers = [await reader.read() for reader, _ in silent]
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers), Counter(answers)
        await trickle
        for _, writer in [*slow, *mute]:
            writer.close()


async def trickling(writer: asyncio.StreamWriter) -> None:
    """Until the other end has gone.  What it said may be lost with what we said after it had closed (a reset)."""
    while not writer.transport.is_closing():
        writer.write(b"a")
        await asyncio.sleep(0.02)


async def test_an_idle_connection_that_has_said_something_is_kept(
    settings: Settings, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "HEAD_S", 0.1)
    async with serving(settings, world) as (_, http):
        head = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        reader, writer = await http.open(head)
        assert b"200 OK" in await reader.readuntil(b"}")
        await asyncio.sleep(2.1)  # two looks at all connections
        writer.write(head.encode())
        assert b"200 OK" in await reader.readuntil(b"}")
        writer.close()


async def test_endless_headers_are_cut_off(http: Http) -> None:
    reader, writer = await http.open("POST /mcp HTTP/1.1\r\n")
    with contextlib.suppress(ConnectionError):
        for number in range(4000):
            writer.write(b"x-%d: %b\r\n" % (number, b"a" * 1000))
            await writer.drain()
            await asyncio.sleep(0)
        raise AssertionError("four megabytes of headers were taken")
    with contextlib.suppress(ConnectionError):
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_a_client_that_does_not_read_is_let_go(
    settings: Settings, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "STALL_S", 0.3)
    async with serving(settings, world) as (_, http), Neighbour(http):
        session = await http.initialize()
        large = json.dumps(rpc("tools/call", tool_call("echo", {"text": "x" * 3_000_000}))).encode()
        fields = {**http.headers(Mcp_Session_Id=session), "Content-Length": str(len(large))}
        head = "\r\n".join(["POST /mcp HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]).encode()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", http.port))
            await loop.sock_sendall(sock, head + large)  # the answer is twice that: more than the kernel keeps
            ends = select.poll()
            ends.register(sock, 0)  # hang-ups and errors only
            await until(lambda: bool(ends.poll(0)), "the end of the connection")


# -- many


async def test_500_sessions_at_once_all_end_in_an_answer_or_a_clear_error(settings: Settings) -> None:
    world = inner_world()
    world.start_s = 0.01
    changes = {"max_sandboxes": 40, "max_sandboxes_per_server": 40, "sandbox_queue": 600, "sandbox_wait_s": 20.0}
    async with serving(settings.model_copy(update={**changes, "pool_spares": 4}), world) as (gateway, http):
        outcomes: Counter[str] = Counter()
        gate = asyncio.Semaphore(200)  # connections; the listen queue of a test machine is short

        async def client() -> None:
            async with gate:
                session = await http.initialize()
            seen = 0
            for _ in range(4):
                async with gate:
                    reply = await called(http, session)
                if "error" in reply:
                    outcomes[code(reply)] += 1
                    seen = 0
                else:
                    outcomes["ok"] += 1
                    seen += 1
                    assert text(reply) == str(seen), "another session's state, or a loss that was not told"
            async with gate:
                await http.request("DELETE", Mcp_Session_Id=session)

        await asyncio.gather(*(client() for _ in range(500)))
        assert outcomes.total() == 2000
        assert set(outcomes) <= {"ok", "sandbox.evicted"}
        assert outcomes["ok"] > 500
        assert world.most <= 40
        await until(lambda: len(gateway.leases) == 0 and len(gateway.sessions) == 0)
        await until(lambda: gateway.leases.places.waiting == 0)
    assert world.running == 0
    assert gateway.leases.places.taken == 0


async def test_a_queue_of_calls_whose_clients_leave_holds_no_places(settings: Settings) -> None:
    world = inner_world()
    changes = {"max_sandboxes": 1, "sandbox_wait_s": 30.0}
    async with serving(settings.model_copy(update=changes), world) as (gateway, http):
        first = await http.initialize()
        hanging = asyncio.create_task(called(http, first, "hang"))
        await until(lambda: busy(gateway))
        waiting = [await http.initialize() for _ in range(5)]
        calls = [asyncio.create_task(called(http, session)) for session in waiting]
        await until(lambda: gateway.leases.places.waiting == 5)
        for session in waiting[:4]:
            await http.request("DELETE", Mcp_Session_Id=session)
        await until(lambda: gateway.leases.places.waiting == 1)
        await http.request("DELETE", Mcp_Session_Id=first)
        assert code(await hanging) == "gateway.server_exited"
        assert text(await calls[4]) == "1"
        assert {code(await call) for call in calls[:4]} == {"gateway.server_exited"}
        assert gateway.leases.places.taken == 1


# -- the machine


async def test_a_full_disk_stops_calls_and_no_call_is_lost_when_it_has_room_again(
    settings: Settings, tmp_path: Path
) -> None:
    world = inner_world()
    audit = AuditProcess(tmp_path / "audit")
    world.append = audit.append  # type: ignore[method-assign]
    answered = 0
    async with serving(settings, world) as (_, http):
        session = await http.initialize()
        answered += "result" in await called(http, session)
        await asyncio.to_thread(audit.flush)
        writer, (_, hard) = audit._writer.pid, resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(writer, resource.RLIMIT_FSIZE, (1, hard))
        refused = None
        while refused is None:
            reply = await called(http, session)
            answered += "result" in reply
            refused = reply if "error" in reply else None
        assert code(refused) == "audit.unavailable"
        resource.prlimit(writer, resource.RLIMIT_FSIZE, (hard, hard))
        back = False
        while not back:
            reply = await called(http, session)
            answered += (back := "result" in reply)
            await asyncio.sleep(0.02)
    with contextlib.suppress(HarbourError):
        audit.close()
    recorded = [r for r in tail(tmp_path / "audit", 10_000) if r["kind"] == "call" and r["outcome"] == "ok"]
    assert len(recorded) >= answered, "an answer was given for a call that is not on record"
    verify(tmp_path / "audit")


async def test_a_locked_database_holds_up_no_call(settings: Settings, world: World) -> None:
    settings.database_file.parent.mkdir(parents=True, exist_ok=True)
    held = sqlite3.connect(settings.database_file, isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    async with serving(settings, world) as (_, http):
        session = await http.initialize()
        assert text(await called(http, session)) == "1"
        assert (await http.call(session, "tools/list"))["result"]["tools"]
    held.close()


async def test_what_a_session_held_is_garbage_when_it_has_gone(settings: Settings) -> None:
    world = inner_world()
    async with serving(settings, world) as (gateway, http):
        before = alive("Lease")
        for _ in range(10):
            session = await http.initialize()
            await called(http, session)
            await http.request("DELETE", Mcp_Session_Id=session)
        await until(lambda: gateway.leases.places.taken == 0)
        world.started.clear()  # the test's own hold on them
        await asyncio.sleep(0.1)
        assert alive("Lease") <= before + 1


def alive(name: str) -> int:
    gc.collect()
    return sum(type(found).__name__ == name for found in gc.get_objects())
