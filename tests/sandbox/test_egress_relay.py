"""The way out of a sandbox, through the real relay and the real broker: what is allowed works, all else does not."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import struct
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from docker.errors import NotFound

from harbourmaster.core.audit import AuditUnavailable
from harbourmaster.core.settings import Settings
from sandbox import containers
from sandbox.egress.channel import remove_stale
from sandbox.egress.egress import network
from sandbox.egress.errors import RelayFailed
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.reaper import list_relays, list_sandboxes, reap
from tests.sandbox.egress_world import PATIENCE_S, World, echo, serving

pytestmark = pytest.mark.engine

REFUSED = f"fail {errno.ECONNREFUSED}"
MIB = 1 << 20


@pytest.fixture
async def world(engine: Engine, profile: Profile, tmp_path: Path) -> AsyncIterator[World]:
    world = World(engine, profile, tmp_path)
    yield world
    await world.close()
    left = [c["Names"] for c in [*list_sandboxes(engine), *list_relays(engine)]]
    assert left == []


def hello_for(name: str | None) -> str:
    """A ClientHello as the client's ``send`` takes it."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return "0x" + outgoing.read().hex()


async def test_raw_tcp_passes_both_ways_and_each_side_can_end_its_half(world: World) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"first")  # the server speaks first, as many protocols do
        writer.write(b"you said " + await reader.read(-1))  # only ends at the client's half-close

    async with serving(serve) as port:
        world.names.put("db.test", [("127.0.0.1", port)])
        box = await world.box("db.test:5432")
        n = await box.connected("db.test", 5432)
        assert await box.ask(f"recv {n} 5") == "data first"
        assert await box.ask(f"send {n} hello") == "ok"
        assert await box.ask(f"shut {n}") == "ok"
        assert await box.ask(f"recv {n} 14") == "data you said hello"
        assert await box.ask(f"recv {n} 1") == "eof"
    (opened,), (closed,) = await world.recorded("open"), await world.recorded("close")
    assert (opened["server"], opened["host"], opened["port"], opened["verdict"]) == ("test", "db.test", 5432, "allow")
    assert (closed["sent"], closed["received"], closed["why"]) == (5, 19, "")
    assert opened["sandbox"] == box.sandbox.id
    assert opened["kind"] == "egress"


async def test_ports_below_1024_are_listened_on_without_any_privilege(world: World) -> None:
    async with serving(echo) as port:
        world.names.put("ssh.test", [("127.0.0.1", port)])
        box = await world.box("ssh.test:22")
        n = await box.connected("ssh.test", 22)
        await box.ask(f"send {n} hi")
        assert await box.ask(f"recv {n} 2") == "data hi"


async def test_nothing_but_the_rule_is_reachable(world: World) -> None:
    async with serving(echo) as port:
        world.names.put("db.test", [("127.0.0.1", port)])
        box = await world.box("db.test:5432")
        assert await box.ask("connect db.test 5433") == REFUSED
        assert await box.ask("connect other.test 5432") == "noname"
        assert await box.ask("connect secret-data.db.test 53") == "noname"
        assert await box.ask(f"connect 127.0.0.1 {port}") == REFUSED  # the sandbox's own loopback, not the host's
        for address in ("1.1.1.1", "169.254.169.254", "10.0.0.1", "172.17.0.1"):
            assert await box.ask(f"connect {address} 80") == f"fail {errno.ENETUNREACH}", address
        v6 = await box.ask("connect 2606:4700:4700::1111 443")
        assert v6 in (f"fail {errno.ENETUNREACH}", f"fail {errno.EADDRNOTAVAIL}")
    assert world.names.asked == []
    asked = await world.recorded("refuse", 2)  # of its own name server; nobody else heard of them
    assert [(r["host"], r["code"]) for r in asked] == [
        ("other.test", "egress.host_denied"),
        ("secret-data.db.test", "egress.host_denied"),
    ]


async def test_names_are_asked_for_as_often_as_a_server_likes_and_the_audit_is_not_flooded(world: World) -> None:
    world.limited(unknown_names=3, sweep_s=0.05)
    box = await world.box("db.test:5432")
    for i in range(40):
        assert await box.ask(f"connect leak-{i}.test 5432") == "noname"
    refused = await world.recorded("refuse", 40)
    assert [r["host"] for r in refused if "host" in r] == ["leak-0.test", "leak-1.test", "leak-2.test"]
    assert len(refused) < 20


async def test_questions_beyond_the_limit_are_not_answered(world: World) -> None:
    world.limited(questions_burst=8, questions_per_s=0.0, sweep_s=0.05)
    box = await world.box("db.test:5432", env={"RES_OPTIONS": "timeout:1 attempts:1"})
    said = [await box.ask(f"connect leak-{i}.test 5432") for i in range(5)]
    assert said == ["noname"] * 5
    refused = await world.recorded("refuse", 6)
    assert sum(r["count"] for r in refused if r["code"] == "egress.limit") >= 2


async def test_two_hosts_with_the_same_port_are_told_apart(world: World) -> None:
    async def serve(name: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(name)

    async with serving(lambda r, w: serve(b"one", w)) as one, serving(lambda r, w: serve(b"two", w)) as two:
        world.names.put("one.test", [("127.0.0.1", one)])
        world.names.put("two.test", [("127.0.0.1", two)])
        box = await world.box("one.test:80", "two.test:80")
        for name in ("one", "two"):
            n = await box.connected(f"{name}.test", 80)
            assert await box.ask(f"recv {n} 3") == f"data {name}"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.1.1", "100.64.0.1", "169.254.169.254", "::1", "fd00::1", "fe80::1", "0.0.0.0",
     "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "224.0.0.1"],
)  # fmt: skip
async def test_a_name_that_resolves_to_a_private_address_is_reset(broker_only: Any, address: str) -> None:
    verdict = await broker_only("api.test:80", [[(address, 80)]], private=False)
    assert verdict["code"] == "egress.address_denied"


@pytest.fixture
def broker_only(tmp_path: Path) -> Any:
    """``await broker_only(rule, answers)``: the first record about a connection, without an engine."""
    from tests.sandbox.egress_direct import first_record

    async def ask(rule: str, answers: list[list[tuple[str, int]]], *, private: bool) -> dict[str, Any]:
        return await first_record(tmp_path, rule, answers, private=private)

    return ask


async def test_rebinding_the_name_to_a_private_address_between_connections_is_refused(world: World) -> None:
    async with serving(echo) as port:
        # The first answer stands for a public address: a rule that allows loopback, and a second that never does.
        world.names.put("api.test", [("127.0.0.1", port)], [("169.254.169.254", port)])
        box = await world.box("api.test:80")
        n = await box.connected("api.test", 80)
        await box.ask(f"send {n} hi")
        assert await box.ask(f"recv {n} 2") == "data hi"
        n = await box.connected("api.test", 80)
        assert await box.ask(f"recv {n} 1") == "reset"
    (denied,) = await world.recorded("refuse")
    assert denied["code"] == "egress.address_denied"


async def test_the_address_that_was_checked_is_the_one_connected_to(world: World) -> None:
    async with serving(echo) as port:
        world.names.put("api.test", [("127.0.0.1", port)], [("169.254.169.254", port)])
        box = await world.box("api.test:80")
        await box.connected("api.test", 80)
        (opened,) = await world.recorded("open")
    assert world.names.asked == ["api.test"]
    assert opened["address"] == "127.0.0.1"


async def test_a_plain_request_to_the_proxy_reaches_its_host_in_origin_form(world: World) -> None:
    async with serving(echo) as port:
        world.names.put("plain.test", [("127.0.0.1", port)])
        box = await world.box("plain.test:80", "*.wild.test:80")
        n = await box.connected("127.77.0.1", 3128)
        await box.ask(f"send {n} 0x{b'GET http://plain.test/a HTTP/1.1'.hex()}0d0a0d0a")
        assert await box.ask(f"recv {n} 15") == "data GET /a HTTP/1.1"


async def test_tls_with_the_right_name_passes_untouched_and_with_another_is_reset(world: World) -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(MIB))
        writer.write(b"!")

    right, wrong, none = hello_for("api.test"), hello_for("evil.test"), hello_for(None)
    async with serving(serve) as port:
        world.names.put("api.test", [("127.0.0.1", port)])
        box = await world.box("api.test:443")
        n = await box.connected("api.test", 443)
        await box.ask(f"send {n} {right}")
        assert await box.ask(f"recv {n} 1") == "data !"
        for words in (wrong, none, "GET / HTTP/1.1"):
            n = await box.connected("api.test", 443)
            await box.ask(f"send {n} {words}")
            assert await box.ask(f"recv {n} 1") == "reset"
    assert [data.hex() for data in seen] == [right[2:]]
    codes = [r["code"] for r in await world.recorded("refuse", 3)]
    assert codes == ["egress.name_mismatch", "egress.name_mismatch", "egress.not_tls"]


async def test_the_proxy_serves_wildcards_and_says_why_it_refuses(world: World) -> None:
    async with serving(echo) as port:
        world.names.put("a.wild.test", [("127.0.0.1", port)])
        box = await world.box("*.wild.test:80", "db.test:5432")
        n = await box.connected("127.77.0.1", 3128)
        # CONNECT evil.test:80 / CONNECT wild.test:80 (the suffix itself is not below it) / a.wild.test:81
        for target in ("evil.test:80", "wild.test:80", "a.wild.test:81", "evilwild.test:80"):
            n = await box.connected("127.77.0.1", 3128)
            request = f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode().hex()
            await box.ask(f"send {n} 0x{request}")
            assert (await box.ask(f"recv {n} 12")) == "data HTTP/1.1 403"
        n = await box.connected("127.77.0.1", 3128)
        await box.ask(f"send {n} 0x{b'CONNECT a.wild.test:80 HTTP/1.1'.hex()}0d0a0d0a")
        assert (await box.ask(f"recv {n} 12")) == "data HTTP/1.1 403"
    codes = [r["code"] for r in await world.recorded("refuse", 5)]
    assert codes == ["egress.host_denied"] * 4 + ["egress.address_denied"]  # a wildcard never means a private address


async def test_names_below_a_wildcard_are_reached_by_clients_that_know_of_no_proxy(world: World) -> None:
    """A wildcard never means a private address, so the broker's own refusal shows that the connection arrived there."""
    world.names.put("a.wild.test", [("127.0.0.1", 1)])
    box = await world.box("*.wild.test:80", "*.wild.test:8080", "db.test:5432")
    for name in ("wild.test", "evilwild.test"):
        assert await box.ask(f"connect {name} 80") == "noname"
    for port in (80, 8080):
        n = await box.connected("a.wild.test", port)
        assert await box.ask(f"recv {n} 1") == "reset"
    assert await box.ask("connect a.wild.test 81") == REFUSED
    refused = [r for r in await world.recorded("refuse", 4) if r["host"] == "a.wild.test"]
    assert [(r["rule"], r["code"]) for r in refused] == [
        ("*.wild.test:80", "egress.address_denied"),
        ("*.wild.test:8080", "egress.address_denied"),
    ]


async def test_connect_through_the_proxy_to_an_exact_rule_and_to_a_literal_address(world: World) -> None:
    async with serving(echo) as port:
        world.names.put("db.test", [("127.0.0.1", port)])
        box = await world.box("db.test:5432", f"127.0.0.1:{port}")
        for target in ("DB.test.:5432", f"127.0.0.1:{port}"):
            n = await box.connected("127.77.0.1", 3128)
            await box.ask(f"send {n} 0x{f'CONNECT {target} HTTP/1.1'.encode().hex()}0d0a0d0a")
            assert await box.ask(f"recv {n} 35") == "data HTTP/1.1 200 Connection established"
    assert [r["host"] for r in await world.recorded("open", 2)] == ["db.test", "127.0.0.1"]


async def test_sixty_four_megabytes_arrive_whole_both_ways(world: World) -> None:
    size, block = 64 * MIB, os.urandom(MIB)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        total, crc = 0, 0
        while data := await reader.read(MIB):
            total, crc = total + len(data), zlib.crc32(data, crc)
        writer.write(f"{total} {crc}\n".encode().ljust(32))
        for _ in range(size // MIB):
            writer.write(block)
            await writer.drain()

    async with serving(serve, limit=MIB) as port:
        world.names.put("bulk.test", [("127.0.0.1", port)])
        box = await world.box("bulk.test:9000")
        n = await box.connected("bulk.test", 9000)
        how, crc = (await box.ask(f"push {n} {size}")).split()
        await box.ask(f"shut {n}")
        assert how == "ok"
        assert (await box.ask(f"recv {n} 32")).split() == ["data", str(size), crc]
        assert await box.line() == " " * (31 - len(f"{size} {crc}"))
        expected = 0
        for _ in range(size // MIB):
            expected = zlib.crc32(block, expected)
        assert await box.ask(f"drain {n}") == f"eof {size} {expected}"
    (closed,) = await world.recorded("close")
    assert (closed["sent"], closed["received"]) == (size, size + 32)
    usage = next(iter(world.broker.outlets)).usage["bulk.test:9000"]
    assert (usage.sent, usage.received, usage.connections, usage.open) == (size, size + 32, 1, 0)


async def test_a_slow_reader_holds_up_its_sender_and_nobody_else(world: World) -> None:
    written, held_up = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        if await reader.read(1) == b"e":
            writer.write(b"quick")
            return
        for _ in range(64):
            writer.write(bytes(MIB))
            written += MIB
            try:
                await asyncio.wait_for(writer.drain(), 1)
            except TimeoutError:  # every buffer on the way is full
                held_up.set()
                await writer.drain()

    async with serving(serve) as port:
        world.names.put("bulk.test", [("127.0.0.1", port)])
        box = await world.box("bulk.test:9000")
        slow = await box.connected("bulk.test", 9000)
        await box.ask(f"send {slow} x")
        await asyncio.wait_for(held_up.wait(), PATIENCE_S)
        assert written < 32 * MIB
        quick = await box.connected("bulk.test", 9000)
        await box.ask(f"send {quick} e")
        assert await box.ask(f"recv {quick} 5") == "data quick"
        assert world.engine.api.stats(box.relay_id, stream=False)["memory_stats"]["usage"] < 16 * MIB
        assert (await box.ask(f"drain {slow}")).startswith(f"eof {64 * MIB} ")


async def test_two_hundred_connections_at_once_are_all_answered(world: World) -> None:
    async with serving(echo, backlog=1024) as port:
        world.names.put("db.test", [("127.0.0.1", port)])
        box = await world.box("db.test:5432")
        assert await box.ask("many db.test 5432 200") == "ok 200"
        assert world.engine.api.stats(box.relay_id, stream=False)["memory_stats"]["usage"] < 16 * MIB


async def test_connections_beyond_the_limit_are_reset_and_the_audit_is_not_flooded(
    world: World,
) -> None:
    world.limited(connections=10, burst=30, starts_per_s=0.0, sweep_s=0.1)
    async with serving(echo, backlog=1024) as port:
        world.names.put("db.test", [("127.0.0.1", port)])
        box = await world.box("db.test:5432")
        assert await box.ask("many db.test 5432 300") == "ok 10"
        refused = await world.recorded("refuse", 290)
    assert [r["code"] for r in refused] == ["egress.limit"] * len(refused)
    assert sum(r.get("count", 1) for r in refused) == 290
    assert len(refused) < 30


async def test_the_total_of_bytes_ends_the_connection_and_every_later_one(world: World) -> None:
    world.limited(total_bytes=4 * MIB)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(64):
            writer.write(bytes(MIB))
            await writer.drain()

    async with serving(serve) as port:
        world.names.put("bulk.test", [("127.0.0.1", port)])
        box = await world.box("bulk.test:9000")
        n = await box.connected("bulk.test", 9000)
        how, size, _ = (await box.ask(f"drain {n}")).split()
        assert how == "reset"
        assert int(size) <= 4 * MIB
        n = await box.connected("bulk.test", 9000)
        assert await box.ask(f"recv {n} 1") == "reset"
    (denied,) = await world.recorded("refuse")
    assert denied["code"] == "egress.limit"


async def test_an_idle_connection_is_cut(world: World) -> None:
    world.limited(idle_s=0.2, sweep_s=0.05)
    async with serving(echo) as port:
        world.names.put("db.test", [("127.0.0.1", port)])
        box = await world.box("db.test:5432")
        n = await box.connected("db.test", 5432)
        assert await box.ask(f"recv {n} 1") == "reset"
    (closed,) = await world.recorded("close")
    assert closed["why"] == "idle"


async def test_a_server_that_breaks_off_is_not_taken_for_the_end_of_the_data(world: World) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half of")
        await writer.drain()
        await reader.read(1)
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with serving(serve) as port:
        world.names.put("db.test", [("127.0.0.1", port)])
        box = await world.box("db.test:5432")
        n = await box.connected("db.test", 5432)
        assert await box.ask(f"recv {n} 7") == "data half of"
        await box.ask(f"send {n} x")
        assert await box.ask(f"recv {n} 1") == "reset"


async def test_what_cannot_be_reached_is_reset_with_a_code(world: World, unused_tcp_port: int) -> None:
    world.names.put("down.test", [("127.0.0.1", unused_tcp_port)])
    box = await world.box("down.test:80", "gone.test:80")
    for name in ("down", "gone"):
        n = await box.connected(f"{name}.test", 80)
        assert await box.ask(f"recv {n} 1") == "reset"
    codes = [r["code"] for r in await world.recorded("refuse", 2)]
    assert codes == ["egress.unreachable", "egress.unresolved"]


async def test_ipv6_hosts_are_reached(world: World) -> None:
    async with serving(echo, "::1") as port:
        world.names.put("six.test", [("::1", port)])
        box = await world.box("six.test:80")
        n = await box.connected("six.test", 80)
        await box.ask(f"send {n} hi")
        assert await box.ask(f"recv {n} 2") == "data hi"


async def test_when_the_relay_is_killed_its_sandbox_ends_with_it(world: World) -> None:
    async with serving(echo) as port:
        world.names.put("db.test", [("127.0.0.1", port)])
        box = await world.box("db.test:5432")
        await box.connected("db.test", 5432)
        world.engine.api.kill(box.relay_id, "SIGKILL")
        assert (await box.end()).reason == "stopped"


async def test_when_the_broker_is_gone_nothing_answers_any_more(world: World) -> None:
    async with serving(echo) as port:
        world.names.put("db.test", [("127.0.0.1", port)])
        box = await world.box("db.test:5432")
        n = await box.connected("db.test", 5432)
        await world.broker.close()
        assert await box.ask(f"recv {n} 1") == "reset"
        with contextlib.suppress(NotFound):
            world.engine.api.wait(box.relay_id, condition="removed")
        assert await box.ask("connect 127.77.1.1 5432") == REFUSED
        assert await box.ask("connect db.test 5432") == "noname"


async def test_without_an_audit_nothing_passes(world: World) -> None:
    async with serving(echo) as port:
        world.names.put("db.test", [("127.0.0.1", port)])
        box = await world.box("db.test:5432")
        world.refuse_records = AuditUnavailable("the disk is full")
        n = await box.connected("db.test", 5432)
        assert await box.ask(f"recv {n} 1") == "reset"


async def test_a_relay_that_does_not_come_up_is_an_error_and_leaves_nothing(world: World) -> None:
    world.relay_image = world.client_image  # it never opens the control connection
    with pytest.raises(RelayFailed):
        await network(world.egress, "test", {"hosts": ["db.test:1"]})
    assert list(world.broker.directory.iterdir()) == []


async def test_the_relay_is_as_locked_down_as_a_sandbox_and_the_sandbox_has_no_mount(world: World) -> None:
    box = await world.box("db.test:5432")
    relay = world.engine.api.inspect_container(box.relay_id)
    inside = world.engine.api.inspect_container(box.sandbox.id)
    for container in (relay, inside):
        host = container["HostConfig"]
        assert (host["CapDrop"], host["ReadonlyRootfs"], host["Privileged"]) == (["ALL"], True, False)
        assert container["Config"]["User"] == "65532:65532"
        assert any(option.startswith("seccomp={") for option in host["SecurityOpt"])
    assert relay["HostConfig"]["NetworkMode"] == "none"
    assert inside["HostConfig"]["NetworkMode"] == f"container:{box.relay_id}"
    assert [m for m in inside["Mounts"] if m["Type"] != "tmpfs"] == []
    (mount,) = relay["Mounts"]
    assert (mount["RW"], Path(mount["Source"]).parent) == (False, world.broker.directory)
    assert world.broker.directory.stat().st_mode & 0o777 == 0o700
    assert world.engine.api.stats(box.relay_id, stream=False)["memory_stats"]["usage"] < 16 * MIB


async def test_a_sandbox_behind_a_relay_is_measured_as_any_other(world: World) -> None:
    """Docker itself leaves out everything for a container whose network it has no record of."""
    box = await world.box("db.test:5432")
    assert box.sandbox is not None
    now = containers.stats(world.engine, box.sandbox.id)
    assert 0 < now["memory_stats"]["usage"] < now["memory_stats"]["limit"] == 512 * MIB
    assert 1 <= now["pids_stats"]["current"] <= 4
    assert now["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert set(now["cpu_stats"]["throttling_data"]) == {"periods", "throttled_periods", "throttled_time"}


async def test_the_next_session_finds_a_relay_ready_and_closing_leaves_none(
    engine: Engine, profile: Profile, tmp_path: Path
) -> None:
    world = World(engine, profile, tmp_path, spares=1)
    async with serving(echo) as port:
        world.names.put("db.test", [("127.0.0.1", port)])
        first = await world.box("db.test:5432")
        await asyncio.gather(*world.egress._ending)  # the spare is made in the background
        (spare,) = {c["Id"] for c in list_relays(engine)} - {first.relay_id}
        second = await world.box("db.test:5432")
        assert second.relay_id == spare
        n = await second.connected("db.test", 5432)
        await second.ask(f"send {n} hi")
        assert await second.ask(f"recv {n} 2") == "data hi"
    await world.close()
    assert list_relays(engine) == []


async def test_a_spare_relay_whose_image_is_no_longer_the_admitted_one_is_not_used(
    engine: Engine, profile: Profile, tmp_path: Path
) -> None:
    world = World(engine, profile, tmp_path, spares=1)
    await world.box("db.test:5432")
    await asyncio.gather(*world.egress._ending)
    spare = world.egress.spares._ready
    (kept,) = [relay for relay, _ in spare.values()]
    kept.image_id = "sha256:" + "0" * 64
    box = await world.box("db.test:5432")
    assert box.relay_id != kept.id
    await world.close()
    assert list_relays(engine) == []


def test_a_killed_gateway_leaves_no_relay_and_the_next_one_clears_its_folder(
    tmp_path: Path, project_root: Path
) -> None:
    engine = Engine.connect(Settings.load(home=tmp_path))
    command = [sys.executable, "-m", "tests.sandbox.egress_owner", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=project_root) as owner:
        assert owner.stdout is not None
        relay = owner.stdout.readline().strip()
        owner.kill()
    with contextlib.suppress(NotFound):
        engine.api.wait(relay, condition="removed")
    assert list_relays(engine) == []
    reap(engine)
    assert list_sandboxes(engine) == []
    (folder,) = (tmp_path / "run" / "egress").iterdir()
    os.utime(folder, (0, 0))
    remove_stale(tmp_path / "run" / "egress")
    assert not folder.exists()
    engine.close()


def test_it_works_the_same_on_the_event_loop_that_the_gateway_uses(
    engine: Engine, profile: Profile, tmp_path: Path
) -> None:
    async def round_trips() -> list[str]:
        world = World(engine, profile, tmp_path)
        async with serving(echo) as port:
            world.names.put("api.test", [("127.0.0.1", port)])
            world.names.put("db.test", [("127.0.0.1", port)])
            box = await world.box("api.test:443", "db.test:5432")
            said = []
            for host, tls, words in (
                ("db.test", 5432, "hi"),
                ("api.test", 443, hello_for("api.test")),
                ("api.test", 443, "x"),
            ):
                n = await box.connected(host, tls)
                await box.ask(f"send {n} {words}")
                await box.ask(f"shut {n}")
                said.append((await box.ask(f"drain {n}")).rpartition(" ")[0])
        await world.close()
        return said

    size = len(hello_for("api.test")) // 2 - 1
    assert uvloop.run(round_trips()) == ["eof 2", f"eof {size}", "reset 0"]
