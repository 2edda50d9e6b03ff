"""The runner from inside a sandbox: only where an egress rule names it.  The broker is asked as a sandbox's relay asks it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandbox.egress.broker import Broker
from sandbox.egress.rules import Rules
from tests.runner.conftest import Server
from tests.sandbox.egress_direct import hello, knock
from tests.sandbox.egress_world import PATIENCE_S

NAME = "model-runner.docker.internal"


async def ask(
    place: Path, server: Server, *, private: bool, line: str = "GET /v1/models", host: str = ""
) -> tuple[bytes, dict[str, Any]]:
    """What comes back from a request through a broker, and what it recorded first."""
    rule = f"{NAME}:{urlsplit(server.url).port}"
    records = asyncio.Queue[dict[str, Any]]()
    broker = Broker(place / "egress", records.put_nowait)
    outlet = broker.open("test", Rules.parse({"hosts": [rule], "private": [rule] if private else []}))
    connection = knock(outlet.channel.directory)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        request = f"{line} HTTP/1.1\r\nHost: {host or rule}\r\nConnection: close\r\n\r\n"
        await loop.sock_sendall(connection, hello(0) + request.encode())
        record = await asyncio.wait_for(records.get(), PATIENCE_S)
        said = b""
        while record["verdict"] == "allow" and (
            data := await asyncio.wait_for(loop.sock_recv(connection, 65536), PATIENCE_S)
        ):
            said += data
        return said, record
    finally:
        connection.close()
        await broker.close()


@pytest.mark.slow
async def test_a_rule_that_names_the_runner_lets_a_sandbox_ask_it(server: Server, tmp_path: Path) -> None:
    said, record = await ask(tmp_path, server, private=True)
    assert record["verdict"] == "allow"
    assert b"HTTP/1.1 200" in said[:20]  # after the broker's word to the relay
    assert b"ai/smollm2" in said


@pytest.mark.slow
async def test_the_name_alone_is_not_enough_for_it_is_this_machine(server: Server, tmp_path: Path) -> None:
    said, record = await ask(tmp_path, server, private=False)
    assert (said, record["code"]) == (b"", "egress.address_denied")


@pytest.mark.slow
@pytest.mark.parametrize("host", ["", "localhost"])
@pytest.mark.parametrize(
    "line",
    ["DELETE /models/ai/smollm2", "DELETE /models/purge", "GET /logs", "GET /engines/_configure", "GET /v1/responses/x",
     "POST /v1/responses", "POST /models/create", "GET /v1/models/../../logs", "GET /%6cogs"],
)  # fmt: skip
async def test_a_sandbox_may_compute_and_nothing_else_whatever_host_it_names(
    server: Server, tmp_path: Path, line: str, host: str
) -> None:
    said, record = await ask(tmp_path, server, private=True, line=line, host=host)
    assert record["verdict"] == "allow"
    refused = b"HTTP/1.1 403" in said and b"a sandboxed server may use models" in said
    assert refused or b"HTTP/1.1 404" in said, said  # 404: a name that is no path here
    assert server.get("/models").json()
