"""The HTTP connection itself: one answer, one message; pipelining, HEAD, headers that must not leave, idle connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import uvicorn

from gateway.edges.exchange import KEEP_ALIVE_S, QuickProtocol, Signal
from gateway.edges.patience import BODY_S, look_at
from gateway.edges.streams import send_body
from gateway.serve import bind
from tests.gateway.harness import until


class Server(uvicorn.Server):
    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(
            app, loop="none", http=QuickProtocol, ws="none", lifespan="off", interface="asgi3", log_config=None
        )
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@contextlib.asynccontextmanager
async def connected(app: Any) -> AsyncIterator[tuple[Server, asyncio.StreamReader, asyncio.StreamWriter]]:
    server, sock = Server(app), bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    await server.up.wait()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield server, reader, writer
    finally:
        writer.close()
        server.should_exit = True
        await serving


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Path, query, and the body."""
    body = (await receive())["body"]
    await send_body(send, 200, f"{scope['path']} {scope['query_string'].decode()} ".encode() + body)


async def answer(reader: asyncio.StreamReader, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    length = int(headers.get("content-length", "0")) if body else 0
    return int(head[0].split()[1]), headers, await reader.readexactly(length)


def post(path: str, body: bytes, *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_requests_sent_at_once_are_answered_in_their_order() -> None:
    async with connected(echo) as (_, reader, writer):
        writer.write(post("/a", b"1") + post("/b?c=d", b"2") + post("/e%20f", b"3"))
        bodies = [(await answer(reader))[2] for _ in range(3)]
        assert bodies == [b"/a  1", b"/b c=d 2", b"/e f  3"]


async def test_an_answer_says_how_long_it_is_and_when_it_was_given() -> None:
    async with connected(echo) as (_, reader, writer):
        writer.write(post("/", b"x" * 100_000))
        status, headers, body = await answer(reader)
        assert (status, headers["content-type"], len(body)) == (200, "application/json", 100_003)
        assert "date" in headers
        assert "connection" not in headers


async def test_a_request_for_the_head_gets_no_body() -> None:
    async with connected(echo) as (_, reader, writer):
        writer.write(b"HEAD /a HTTP/1.1\r\nhost: localhost\r\n\r\n" + post("/b", b"2"))
        _, headers, _ = await answer(reader, body=False)
        assert headers["content-length"] == "4"
        assert (await answer(reader))[2] == b"/b  2"


async def test_no_content_has_no_length() -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        await send_body(send, 204, b"")

    async with connected(nothing) as (_, reader, writer):
        writer.write(post("/", b""))
        status, headers, _ = await answer(reader)
        assert status == 204
        assert "content-length" not in headers


async def test_who_asks_for_the_end_of_the_connection_gets_it_after_the_answer() -> None:
    async with connected(echo) as (_, reader, writer):
        writer.write(post("/", b"1", "connection: close"))
        assert (await answer(reader))[1]["connection"] == "close"
        assert await reader.read() == b""


async def test_a_header_that_would_split_the_answer_does_not_leave() -> None:
    async def splitting(scope: Any, receive: Any, send: Any) -> None:
        await send_body(send, 200, b"{}", [(b"x-told", b"a\r\nset-cookie: b")])

    async with connected(splitting) as (_, reader, writer):
        writer.write(post("/", b""))
        status, headers, _ = await answer(reader)
        assert status == 500
        assert "set-cookie" not in headers


async def test_a_second_answer_to_one_request_is_a_fault_of_ours_and_never_sent() -> None:
    async def twice(scope: Any, receive: Any, send: Any) -> None:
        await send_body(send, 200, b"1")
        await send_body(send, 200, b"2")

    async with connected(twice) as (_, reader, writer):
        writer.write(post("/", b""))
        assert (await answer(reader))[2] == b"1"
        assert await reader.read() == b""


async def test_a_connection_that_is_idle_too_long_is_closed_and_a_busy_one_is_not() -> None:
    async with connected(echo) as (server, reader, writer):
        writer.write(post("/", b"1"))
        await answer(reader)
        now = asyncio.get_running_loop().time()
        look_at(server.server_state.connections, now + KEEP_ALIVE_S - 1)
        writer.write(post("/", b"2"))
        assert (await answer(reader))[2] == b"/  2"
        look_at(server.server_state.connections, asyncio.get_running_loop().time() + KEEP_ALIVE_S + 1)
        assert await reader.read() == b""


async def test_a_body_that_never_begins_or_never_ends_is_not_waited_for_for_ever() -> None:
    for begun in (b"", b"abc"):
        async with connected(echo_all) as (server, reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n" + begun)
            await asyncio.sleep(0.1)
            now = asyncio.get_running_loop().time()
            look_at(server.server_state.connections, now)
            look_at(server.server_state.connections, now + BODY_S - 1)
            assert len(server.server_state.tasks) == 1
            look_at(server.server_state.connections, now + BODY_S + 1)
            assert (await answer(reader))[0] == 408
            assert await reader.read() == b""
            await asyncio.wait_for(asyncio.gather(*server.server_state.tasks), 5)
            assert not server.server_state.connections


async def test_a_long_call_whose_body_is_here_is_left_alone() -> None:
    leave = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await leave.wait()
        await send_body(send, 200, b"{}")

    async with connected(slow) as (server, reader, writer):
        for _ in range(2):
            leave.clear()
            writer.write(post("/", b"x"))
            await asyncio.sleep(0.1)
            now = asyncio.get_running_loop().time()
            for later in (0, BODY_S + 1, 10 * BODY_S):
                look_at(server.server_state.connections, now + later)
            leave.set()
            assert (await answer(reader))[2] == b"{}"


async def test_one_task_answers_all_requests_of_a_connection_and_ends_with_it() -> None:
    tasks = set()

    async def who(scope: Any, receive: Any, send: Any) -> None:
        tasks.add(asyncio.current_task())
        await echo(scope, receive, send)

    async with connected(who) as (server, reader, writer):
        for number in (b"1", b"2", b"3"):
            writer.write(post("/", number))
            assert (await answer(reader))[2] == b"/  " + number
        assert server.server_state.tasks == tasks
        assert len(tasks) == 1
        writer.close()
        await asyncio.wait_for(asyncio.wait(tasks), 5)
        assert not server.server_state.tasks


async def test_a_request_does_not_wait_for_what_its_predecessor_does_after_its_answer() -> None:
    leave = asyncio.Event()

    async def lingering(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, send)
        if scope["path"] == "/stay":
            await leave.wait()

    async with connected(lingering) as (server, reader, writer):
        writer.write(post("/stay", b"1"))
        await answer(reader)
        for number in (b"2", b"3"):
            writer.write(post("/", number))
            assert (await answer(reader))[2] == b"/  " + number
        leave.set()
        writer.write(post("/stay", b"4") + post("/", b"5"))
        assert [(await answer(reader))[2] for _ in range(2)] == [b"/stay  4", b"/  5"]
        assert len(server.server_state.tasks) == 1


async def test_a_client_that_leaves_while_it_is_answered_leaves_no_task_behind() -> None:
    here, leave = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        here.set()
        await leave.wait()
        await send_body(send, 200, b"{}")

    async with connected(slow) as (server, _, writer):
        writer.write(post("/", b"x"))
        await here.wait()
        tasks = set(server.server_state.tasks)
        writer.transport.abort()
        await until(lambda: not server.server_state.connections)
        leave.set()
        await asyncio.wait_for(asyncio.wait(tasks), 5)
        assert not server.server_state.tasks


async def test_a_task_that_was_cancelled_answers_nothing_more_and_the_next_request_gets_another() -> None:
    tasks = []

    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await echo(scope, receive, send)
        if scope["path"] == "/end":
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    async with connected(cancelled) as (server, reader, writer):
        writer.write(post("/end", b"1"))
        await answer(reader)
        await asyncio.wait_for(asyncio.wait(tasks), 5)
        writer.write(post("/", b"2"))
        assert (await answer(reader))[2] == b"/  2"
        assert len(set(tasks)) == 2
        assert server.server_state.tasks == {tasks[1]}


async def test_a_task_that_is_cancelled_between_requests_costs_no_request() -> None:
    async with connected(echo) as (server, reader, writer):
        writer.write(post("/", b"1"))
        await answer(reader)
        (connection,) = server.server_state.connections
        connection.worker.cancel()
        connection.data_received(post("/", b"2"))  # before it has had a turn
        assert (await answer(reader))[2] == b"/  2"


async def test_a_signal_is_heard_whether_it_came_before_or_after_the_wait() -> None:
    signal = Signal()
    signal.set()
    assert await signal.wait()
    signal.clear()
    waiting = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    signal.set()
    assert await asyncio.wait_for(waiting, 5)
    signal.clear()
    assert not (again := asyncio.create_task(signal.wait())).done()
    await asyncio.sleep(0)
    signal.set()
    assert await asyncio.wait_for(again, 5)


async def echo_all(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    await send_body(send, 200, body)
