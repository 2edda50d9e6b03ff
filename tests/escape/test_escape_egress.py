"""A hostile server that may reach one host: what it tries to make of that."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.egress.names import SERVER
from sandbox.egress.rules import FIRST_ADDRESS, PROXY
from sandbox.engine import Engine
from sandbox.profile import Profile
from tests.escape.captive import parsed
from tests.escape.conftest import Note
from tests.escape.harbour import LIMITS
from tests.sandbox.egress_world import Box, World, serving

pytestmark = pytest.mark.engine

RULES = ("api.test:443", "db.test:5432", "*.wild.test:443")
API, DB = str(FIRST_ADDRESS), str(FIRST_ADDRESS + 1)
THROUGH_PROXY = "|".join(map(str, PROXY))


@pytest.fixture
async def world(engine: Engine, profile: Profile, tmp_path: Path) -> AsyncIterator[World]:
    world = World(engine, profile, tmp_path)
    yield world
    await world.close()


@pytest.fixture
async def box(world: World, hostile_image: str) -> Box:
    return await world.box(*RULES, image=hostile_image, limits=LIMITS)


async def attempt(box: Box, tool: str, **arguments: str) -> dict[str, str]:
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    reply = json.loads(await box.ask(json.dumps(request, separators=(",", ":"))))
    return parsed(reply["result"]["content"][0]["text"])


async def speak(box: Box, to: str, *parts: bytes) -> str:
    seen = await attempt(box, "speak", to=to, parts=",".join(part.hex() for part in parts))
    return seen.get("answer", seen.get("connection", ""))


def hello_for(name: str) -> bytes:
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def connect_to(target: str) -> bytes:
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()


async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"welcome")


async def test_another_tls_server_behind_an_allowed_host_is_not_reached(world: World, box: Box, note: Note) -> None:
    async with serving(welcome) as port:
        world.names.put("api.test", [("127.0.0.1", port)])
        assert await speak(box, f"{API}|443", hello_for("api.test")) == "welcome", "the rule itself works"
        direct = await speak(box, f"{API}|443", hello_for("evil.test"))
        proxied = await speak(box, THROUGH_PROXY, connect_to("api.test:443"), hello_for("evil.test"))
        plain = await speak(box, f"{API}|443", b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
    codes = [r["code"] for r in await world.recorded("refuse", 3)]
    note(
        "another TLS server name on an allowed connection, direct and by CONNECT", "the name in the ClientHello", direct
    )
    assert (direct, proxied, plain) == ("ECONNRESET",) * 3
    assert codes == ["egress.name_mismatch", "egress.name_mismatch", "egress.not_tls"]


async def test_a_host_that_comes_to_resolve_to_something_private_is_not_reached(
    world: World, box: Box, note: Note
) -> None:
    async with serving(welcome) as port:
        world.names.put("db.test", [("127.0.0.1", port)], [("169.254.169.254", 80)])
        assert await speak(box, f"{DB}|5432", b"x") == "welcome"
        rebound = await speak(box, f"{DB}|5432", b"x")
        world.names.put("a.wild.test", [("127.0.0.1", port)])
        tunnel = await speak(box, THROUGH_PROXY, connect_to("a.wild.test:443"))
    refused = [r["code"] for r in await world.recorded("refuse", 2)]
    note(
        "a name that is bound anew to a private or metadata address",
        "the address is checked, then connected to",
        rebound,
    )
    assert (rebound, tunnel) == ("ECONNRESET", "HTTP/1.1 403")
    assert refused == ["egress.address_denied"] * 2


async def test_a_proxy_opens_nothing_that_no_rule_names(world: World, box: Box, note: Note) -> None:
    targets = ("evil.test:443", "api.test:80", "169.254.169.254:80", "127.0.0.1:22", "wild.test:443", "[::1]:443")
    answers = [await speak(box, THROUGH_PROXY, connect_to(target)) for target in targets]
    note("CONNECT to hosts, ports and addresses without a rule", "the rules", ", ".join(sorted(set(answers))))
    assert set(answers) == {"HTTP/1.1 403"}
    assert world.names.asked == []


async def test_names_that_carry_a_secret_reach_no_resolver(world: World, box: Box, note: Note) -> None:
    server = "|".join(map(str, SERVER))
    seen = await attempt(box, "dns", targets=f"{server},1.1.1.1|53")
    (asked,) = await world.recorded("refuse")
    note(
        "a name that carries a secret, to its own name server", "it answers names of its rules, itself", "no such name"
    )
    assert seen == {server: "THROUGH", "1.1.1.1|53": "ENETUNREACH"}  # asked and answered, inside
    assert (asked["host"], asked["code"]) == ("secret.example.com", "egress.host_denied")
    assert world.names.asked == []


async def test_the_way_to_the_broker_is_not_inside(box: Box, note: Note) -> None:
    seen = await attempt(box, "tcp", targets=f"{API}|80,{DB}|443,127.0.0.1|443,{PROXY[0]}|53")
    mounts = await attempt(box, "engine_sockets")
    note(
        "other ports of the relay; sockets of the broker and the engine", "none is there", ", ".join(set(seen.values()))
    )
    assert set(seen.values()) == {"ECONNREFUSED"}
    assert set(mounts.values()) == {"ENOENT"}
