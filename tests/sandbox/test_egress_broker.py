"""The broker's own rules, without an engine: a socket stands where the relay would."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.egress.broker import Broker
from sandbox.egress.channel import CONTROL, Wanted
from sandbox.egress.errors import ResolveFailed
from sandbox.egress.limits import LIMITS
from sandbox.egress.resolver import AT_ONCE, Place, Resolver, Turns
from sandbox.egress.rules import Rules
from tests.sandbox.egress_direct import first_record, hello, knock
from tests.sandbox.egress_world import PATIENCE_S, Names, serving


async def test_the_system_resolver_answers_and_remembers() -> None:
    look = Resolver()
    first = await look("localhost", 80)
    assert {place.address for place in first} <= {"127.0.0.1", "::1"}
    assert await look("localhost", 80) is first
    with pytest.raises(ResolveFailed):
        await look("no-such-host.invalid", 80)


async def test_one_sandbox_resolves_a_few_names_at_a_time_however_many_it_wants() -> None:
    running, most, all_busy, go_on = 0, 0, asyncio.Event(), asyncio.Event()

    async def slow(host: str, port: int) -> list[Place]:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        if running == AT_ONCE:
            all_busy.set()
        await go_on.wait()
        running -= 1
        return []

    look = Turns(slow)
    askers = [asyncio.ensure_future(look(f"h{n}.test", 1)) for n in range(20)]
    await all_busy.wait()
    for asker in askers[:10]:
        asker.cancel()  # they give up, but their look-ups still run
    for _ in range(100):
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*askers, return_exceptions=True)
    assert most == AT_ONCE


async def test_a_public_address_beside_a_private_one_is_the_one_that_is_used(tmp_path: Path) -> None:
    record = await first_record(tmp_path, "api.test:1", [[("10.0.0.1", 1), ("192.0.2.1", 1)]], private=False)
    assert record["code"] == "egress.address_denied"  # documentation addresses are not public either


async def test_the_next_address_is_tried_when_one_does_not_answer(tmp_path: Path, unused_tcp_port: int) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")

    async with serving(greet) as port:
        answers = [[("127.0.0.1", unused_tcp_port), ("127.0.0.1", port)]]
        record = await first_record(tmp_path, "api.test:1", answers, private=True)
    assert (record["event"], record["verdict"]) == ("open", "allow")


async def test_a_listener_that_does_not_exist_is_nobodys(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    broker = Broker(tmp_path / "egress", records.append, look=Names().look)
    outlet = broker.open("test", Rules.parse({"hosts": ["api.test:1"]}))
    connection = knock(outlet.channel.directory)
    connection.sendall(hello(7))
    assert await asyncio.to_thread(connection.recv, 1) == b""
    connection.close()
    await broker.close()


async def test_only_one_relay_may_speak_for_a_sandbox(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "egress", lambda _: None, look=Names().look)
    outlet = broker.open("test", Rules.parse({"hosts": ["api.test:1"]}))
    first, second = knock(outlet.channel.directory), knock(outlet.channel.directory)
    first.sendall(hello(CONTROL))
    await asyncio.wait_for(outlet.channel.ready, PATIENCE_S)
    second.sendall(hello(CONTROL))
    assert await asyncio.to_thread(second.recv, 1) == b""
    first.close()
    second.close()
    await broker.close()


def test_a_folder_whose_path_is_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    place = tmp_path / ("x" * 120)

    async def one() -> dict[str, Any]:
        return await first_record(place, "api.test:1", [[]], private=True)

    assert asyncio.run(one())["code"] == "egress.unresolved"


async def test_a_client_that_says_nothing_on_a_tls_port_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    records = asyncio.Queue[dict[str, Any]]()
    broker = Broker(tmp_path / "e", records.put_nowait, look=Names().look, limits=replace(LIMITS, hello_s=0.05))
    outlet = broker.open("test", Rules.parse({"hosts": ["api.test:443"]}))
    connection: socket.socket = knock(outlet.channel.directory)
    connection.sendall(hello(0))
    assert (await asyncio.wait_for(records.get(), PATIENCE_S))["code"] == "egress.timeout"
    connection.close()
    await broker.close()


async def test_a_connection_that_comes_with_the_relay_s_end_is_closed(tmp_path: Path) -> None:
    """Both are seen in one turn of the event loop, so what was to serve the connection never begins."""
    broker = Broker(tmp_path / "egress", lambda _: None, look=Names().look)
    outlet = broker.open("test", Rules.parse({"hosts": ["api.test:1"]}))
    ours, relay = socket.socketpair()
    outlet._connected(Wanted(0, "127.77.1.1", 1), relay)
    waiting = knock(outlet.channel.directory)
    outlet.channel._accept()
    outlet.close()
    assert await asyncio.to_thread(waiting.recv, 1) == b""
    assert relay.fileno() == -1
    assert outlet.passages == {}
    ours.close()
    waiting.close()
    await broker.close()
