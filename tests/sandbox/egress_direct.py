"""The broker without a relay: a socket to its channel, as a relay would open it."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

from sandbox.egress.broker import Broker
from sandbox.egress.channel import SOCKET
from sandbox.egress.rules import Rules
from tests.sandbox.egress_world import PATIENCE_S, Names


async def first_record(
    place: Path, rule: str, answers: list[list[tuple[str, int]]], *, private: bool, say: bytes = b""
) -> dict[str, Any]:
    """What the broker records first about one connection for ``rule``."""
    names, records = Names(), asyncio.Queue[dict[str, Any]]()
    names.put(rule.rpartition(":")[0], *answers)
    broker = Broker(place / "egress", records.put_nowait, look=names.look)
    outlet = broker.open("test", Rules.parse({"hosts": [rule], "private": [rule] if private else []}))
    connection = knock(outlet.channel.directory)
    try:
        connection.sendall(hello(0) + say)
        return await asyncio.wait_for(records.get(), PATIENCE_S)
    finally:
        connection.close()
        await broker.close()


def hello(number: int) -> bytes:
    """What a relay says first (relay.c)."""
    return number.to_bytes(2, "big") + bytes(6)


def knock(directory: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    fd = os.open(directory, os.O_PATH)
    try:
        connection.connect(f"/proc/self/fd/{fd}/{SOCKET}")
    finally:
        os.close(fd)
    return connection
