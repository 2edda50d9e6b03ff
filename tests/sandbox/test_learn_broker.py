"""The broker of a learning run, without an engine: what it allows, notes, answers and writes down."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.egress.rules import Rules
from sandbox.learn.authority import Authority
from sandbox.learn.outlet import Learning, LearningBroker
from sandbox.learn.recording import Exchange, Raw, Recording
from tests.sandbox.egress_direct import hello, knock
from tests.sandbox.egress_world import Names, serving

PATIENCE_S = 10

ANSWERS = Recording(
    (Exchange("api.test", 443, "GET", "/x", 200, (("X-Own", "1"),), b"from the recording"),),
    (Raw("db.test", 5432, ((True, b"hi "), (False, b"1234"), (True, b"done"))),),
)


class Scene:
    def __init__(self, place: Path, learning: Learning) -> None:
        self.names, self.records = Names(), []
        self.records: list[dict[str, Any]] = []
        self.broker = LearningBroker(place / "s", self.records.append, learning, self.names.look)
        self.outlet = self.broker.open("test", Rules(()))

    def connect(self, host: str, port: int) -> socket.socket:
        """As the relay would, after the name was asked for."""
        assert self.outlet.address_of(host) is not None
        number = next(i for i, at in enumerate(self.outlet.listeners) if (at.host, at.port) == (host, port))
        connection = knock(self.outlet.channel.directory)
        connection.settimeout(PATIENCE_S)
        connection.sendall(hello(number))
        return connection


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Any]:
    made: list[Scene] = []

    def make(**learning: Any) -> Scene:
        made.append(Scene(tmp_path, Learning(**learning)))
        return made[-1]

    yield make
    for each in made:
        await each.broker.close()


def all_of(connection: socket.socket) -> bytes:
    found = b""
    while data := connection.recv(65536):
        found += data
    return found


async def test_any_name_is_answered_and_what_was_connected_to_is_noted(scene: Any) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")

    learning = scene(private=True)
    async with serving(greet) as port:
        learning.names.put("db.test", [("127.0.0.1", port)])
        connection = learning.connect("db.test", 5432)
        assert await asyncio.to_thread(all_of, connection) == b"Khello"
        connection.close()
        assert learning.outlet.address_of("unused.test") is not None
        assert learning.outlet.address_of("no name!") is None
        used = {text for text, usage in learning.broker.usage.items() if usage.connections}
    assert used == {"db.test:5432"}
    assert learning.broker.seen.asked == {"db.test", "unused.test"}
    assert learning.broker.seen.private == {"db.test:5432"}


async def test_private_addresses_stay_out_of_reach_until_a_person_says_otherwise(scene: Any) -> None:
    learning = scene()
    learning.names.put("db.test", [("127.0.0.1", 1)])
    connection = learning.connect("db.test", 5432)
    assert await asyncio.to_thread(connection.recv, 1) == b""
    connection.close()
    assert "not a public address" in learning.broker.seen.problems["db.test:5432"]
    assert learning.broker.usage["db.test:5432"].denied == 1


def tls_request(connection: socket.socket, authority: Authority, host: str) -> bytes:
    assert connection.recv(1) == b"K"
    context = ssl.create_default_context(cadata=authority.pem)
    with context.wrap_socket(connection, server_hostname=host) as tls:
        tls.sendall(f"GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return all_of(tls)


async def test_a_recording_answers_in_its_host_s_place_with_tls_that_verifies(scene: Any) -> None:
    authority = Authority()
    learning = scene(simulate=ANSWERS, authority=authority)
    connection = learning.connect("api.test", 443)
    said = await asyncio.to_thread(tls_request, connection, authority, "api.test")
    assert said.startswith(b"HTTP/1.1 200")
    assert said.endswith(b"\r\n\r\nfrom the recording")
    assert learning.names.asked == [], "nobody out there was asked"


async def test_what_the_recording_lacks_is_said_and_noted(scene: Any) -> None:
    authority = Authority()
    learning = scene(simulate=ANSWERS, authority=authority)
    said = await asyncio.to_thread(tls_request, learning.connect("other.test", 443), authority, "other.test")
    assert b"502" in said.splitlines()[0]
    assert b"learn.not_recorded" in said
    assert "not in the recording" in learning.broker.seen.problems["other.test:443"]


async def test_a_client_that_does_not_trust_the_throwaway_authority_is_noted(scene: Any) -> None:
    learning = scene(simulate=ANSWERS, authority=Authority())

    def distrust(connection: socket.socket) -> None:
        with pytest.raises(ssl.SSLError):
            tls_request(connection, Authority(), "api.test")

    connection = learning.connect("api.test", 443)
    await asyncio.to_thread(distrust, connection)
    connection.close()
    await asyncio.gather(*learning.outlet.passages)
    assert "TLSV1_ALERT" in learning.broker.seen.problems["api.test:443"].upper().replace(" ", "_")


async def test_a_protocol_of_its_own_is_replayed_step_by_step(scene: Any) -> None:
    learning = scene(simulate=ANSWERS, authority=Authority())
    connection = learning.connect("db.test", 5432)

    def talk() -> bytes:
        assert connection.recv(1) == b"K"
        assert connection.recv(3) == b"hi "
        connection.sendall(b"abcd")
        return all_of(connection)

    assert await asyncio.to_thread(talk) == b"done"
    connection.close()


async def test_what_hosts_answer_is_written_down_and_answers_again(scene: Any) -> None:
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 4" in head.lower()
        body = await reader.readexactly(4)
        writer.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Own: 1\r\n\r\n3\r\n<" + body[:1] + b">\r\n0\r\n\r\n"
        )

    learning = scene(record=True, private=True, authority=Authority())
    async with serving(page) as port:
        learning.names.put("plain.test", [("127.0.0.1", port)])
        connection = learning.connect("plain.test", 80)
        request = b"POST /p HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwxyz"
        connection.sendall(request)
        said = await asyncio.to_thread(all_of, connection)
        connection.close()
    assert said.endswith(b"\r\n\r\n<w>")
    (exchange,) = learning.broker.seen.recording.http
    assert (exchange.method, exchange.target, exchange.status, exchange.body) == ("POST", "/p", 200, b"<w>")
    assert dict(exchange.headers)["x-own"] == "1"
    assert learning.broker.seen.private == set() or learning.broker.seen.private == {"plain.test:80"}
