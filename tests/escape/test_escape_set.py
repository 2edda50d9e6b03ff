"""The escape set through a gateway: a hostile server, run as any entry would be, tries everything and must fail."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from sandbox.engine import Engine
from tests.escape.caller import Caller
from tests.escape.captive import canaries
from tests.escape.cases import CASES, NO_SIX, NOBODY, NOWHERE, SNOOP, Case
from tests.escape.conftest import Harbour, Note
from tests.escape.host import host_addresses, listening

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.tool}-{case.arguments.get('where', '')}".strip("-"))
def test_the_attempt_is_stopped(hostile: Caller, note: Note, case: Case) -> None:
    seen = hostile.attempt(case.tool, **case.arguments)
    note(case.tried, case.wall, case.observed(seen))
    assert case.escapes(seen) == []
    assert seen


def test_the_host_s_own_ports_are_reached_on_none_of_its_addresses(hostile: Caller, note: Note) -> None:
    addresses = host_addresses()
    assert "127.0.0.1" in addresses
    with listening() as listener:
        for address in addresses:
            socket.create_connection((address, listener.port), timeout=5).close()
        assert listener.arrived() == len(addresses), "the listener itself must work"
        targets = ",".join(f"{address}|{listener.port}" for address in addresses)
        seen = {**hostile.attempt("tcp", targets=targets), **hostile.attempt("udp", targets=targets)}
        assert listener.arrived() == 0
    assert len(seen) == len(addresses)
    assert set(seen.values()) <= NOWHERE | NOBODY | NO_SIX
    note(
        "TCP and UDP to the host's own ports",
        "its own network name space",
        f"{len(addresses)} addresses, nothing arrived",
    )


def test_the_gateway_itself_is_not_reached(hostile: Caller, harbour: Harbour) -> None:
    port = harbour.url.split(":")[2].split("/")[0]
    assert set(hostile.attempt("tcp", targets=f"127.0.0.1|{port}").values()) == {"ECONNREFUSED"}


def test_abstract_sockets_of_the_host_are_not_reached(hostile: Caller, note: Note) -> None:
    name = f"hm-escape-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind(f"\0{name}")
        ours.listen()
        with socket.socket(socket.AF_UNIX) as check:
            check.connect(f"\0{name}")
        seen = hostile.attempt("abstract", socket=name)
    note("an abstract Unix socket of the host (X11, D-Bus)", "its own network name space", seen["abstract socket"])
    assert seen == {"abstract socket": "ECONNREFUSED"}


def test_another_sandbox_is_not_reached(hostile: Caller, doomed: Caller, note: Note) -> None:
    assert doomed.attempt("listen", port=4444) == {"listening": "THROUGH"}
    targets = "127.0.0.1|4444,0.0.0.0|4444,::1|4444"
    assert set(doomed.attempt("tcp", targets="127.0.0.1|4444").values()) == {"THROUGH"}, "it does listen"
    seen = hostile.attempt("tcp", targets=targets) | hostile.attempt("abstract", socket="hm-escape-neighbour")
    note(
        "a port and an abstract socket of another sandbox", "its own network name space", ", ".join(set(seen.values()))
    )
    assert set(seen.values()) == {"ECONNREFUSED"}


async def test_secrets_of_the_host_and_of_other_servers_are_not_found(
    engine: Engine, hostile_image: str, hostile: Caller, note: Note
) -> None:
    async with canaries(engine, hostile_image):
        seen = hostile.attempt(SNOOP.tool, **SNOOP.arguments)
    note(SNOOP.tried, SNOOP.wall, seen["secret"])
    assert SNOOP.escapes(seen) == []


def test_signals_reach_neither_its_init_nor_the_host(hostile: Caller, note: Note) -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        seen = hostile.attempt("signals", pid=process.pid)
        assert process.poll() is None
        process.terminate()
    note(
        "SIGKILL and SIGSTOP to pid 1; a signal to a process of the host",
        "its own process name space",
        ", ".join(seen.values()),
    )
    assert seen == {"killing pid 1": "IGNORED", "signal to a process of the host": "ESRCH"}
