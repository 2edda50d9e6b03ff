"""A server that does what it must not, in words that no record can hold: it is on record all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from harbourmaster.core.audit_chain import checked
from sandbox.egress.broker import Broker
from sandbox.egress.errors import RequestMalformed
from sandbox.egress.proxy import MAX_HOST, parse_request
from sandbox.egress.rules import Rules
from tests.sandbox.egress_direct import hello, knock
from tests.sandbox.egress_world import PATIENCE_S, Names


def client_hello(name: bytes) -> bytes:
    """A ClientHello that asks for ``name``, over as many records as it takes."""
    entry = b"\x00" + len(name).to_bytes(2, "big") + name
    body = len(entry).to_bytes(2, "big") + entry
    extensions = b"\x00\x00" + len(body).to_bytes(2, "big") + body
    said = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    said += len(extensions).to_bytes(2, "big") + extensions
    message = b"\x01" + len(said).to_bytes(3, "big") + said
    pieces = [message[i : i + 16384] for i in range(0, len(message), 16384)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


async def recorded(tmp_path: Path, rule: str, said: bytes) -> dict[str, Any]:
    """The record of one connection that says ``said`` to the listener of ``rule``; as strict as the audit is."""
    records = asyncio.Queue[dict[str, Any]]()
    broker = Broker(tmp_path / "e", lambda record: records.put_nowait(checked(record)), look=Names().look)
    outlet = broker.open("test", Rules.parse({"hosts": [rule]}))
    connection = knock(outlet.channel.directory)
    try:
        connection.sendall(hello(0))
        connection.sendall(said)
        return await asyncio.wait_for(records.get(), PATIENCE_S)
    finally:
        connection.close()
        await broker.close()


async def test_a_server_name_that_no_record_could_hold_is_on_record(tmp_path: Path) -> None:
    found = await recorded(tmp_path, "api.test:443", client_hello(b"a" * 20_000))
    assert (found["code"], found["verdict"], found["host"]) == ("egress.name_mismatch", "deny", "api.test")
    assert "aaaa" in found["why"]


async def test_a_host_that_no_record_could_hold_is_on_record(tmp_path: Path) -> None:
    said = b"CONNECT " + b"a" * 8000 + b":443 HTTP/1.1\r\n\r\n"
    found = await recorded(tmp_path, "*.api.test:443", said)
    assert (found["code"], found["verdict"]) == ("egress.request_malformed", "deny")


@pytest.mark.parametrize("line", ["CONNECT {}:443 HTTP/1.1", "GET http://{}/ HTTP/1.1"])
def test_the_proxy_takes_no_name_that_no_host_can_have(line: str) -> None:
    assert parse_request(line.format("a" * MAX_HOST).encode()).host == "a" * MAX_HOST
    with pytest.raises(RequestMalformed):
        parse_request(line.format("a" * (MAX_HOST + 1)).encode())
