"""Secrets through the gateway: each server gets its own, nobody else sees them, and a canary is looked for everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harbourmaster.core.secrets import SecretId, SecretStore
from sandbox.engine import Engine
from sandbox.reaper import list_sandboxes
from tests.gateway.harness import Http, tool_call
from tests.secrets.conftest import MakeStore

pytestmark = pytest.mark.engine

ROOT = Path(__file__).resolve().parents[2]
KEY, TOKEN = SecretId("alpha", "alpha.key"), SecretId("beta", "token")
CANARIES = ("canary-of-alpha-4711", "canary-of-beta-0815")


@dataclass
class Live:
    http: Http
    session: str
    pid: int
    log: Path
    said: list[str]  # every answer, as text

    async def call(self, server: str, tool: str, **arguments: Any) -> Any:
        name = f"{server}__{tool}"
        reply = await self.http.call(self.session, "tools/call", tool_call(name, arguments))
        self.said.append(json.dumps(reply))
        return reply

    async def variable(self, server: str, name: str) -> str:
        return str((await self.call(server, "env", name=name))["result"]["content"][0]["text"])


@contextlib.asynccontextmanager
async def gateway(home: Path, image: str) -> AsyncIterator[Live]:
    log = home.parent / "gateway.log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.secrets.gateway_process", image),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        assert line, log.read_text()
        url, token = line.split()
        http = Http(int(url.split(":")[2].split("/")[0]), token)
        yield Live(http, await http.initialize(), process.pid, log, [])
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()


@pytest.fixture
def kept(make_store: MakeStore) -> SecretStore:
    store = make_store(backend="age")
    store.put(KEY, CANARIES[0])
    store.put(TOKEN, CANARIES[1])
    return store


@pytest.fixture
async def live(home: Path, kept: SecretStore, shell_image: str, engine: Engine) -> AsyncIterator[Live]:
    async with gateway(home, shell_image) as running:
        yield running


@pytest.fixture
async def telling(home: Path, kept: SecretStore, shell_image: str, engine: Engine) -> AsyncIterator[Live]:
    """A gateway that lets secrets through in arguments and answers, so that a test can see and say what a server was given."""
    (home / "config.toml").write_text('[interceptors]\nsecrets_in_arguments = "off"\nsecrets_in_results = "off"\n')
    async with gateway(home, shell_image) as running:
        yield running


async def test_a_server_that_says_its_secret_is_not_heard(live: Live) -> None:
    assert await live.variable("alpha", "FROM_FILE") == "[redacted: secret-in-use]"
    assert await live.variable("beta", "TOKEN") == "[redacted: secret-in-use]"


async def test_a_client_that_says_a_server_s_secret_is_refused(live: Live) -> None:
    await live.call("alpha", "echo", text="so that its secret is in use")
    refused = await live.call("beta", "echo", text=f"is it {CANARIES[0]}?")
    assert CANARIES[0] not in json.dumps(refused)
    assert "result" not in refused or refused["result"]["isError"]


async def test_each_server_gets_its_own_secret_and_not_the_other_s(telling: Live) -> None:
    live = telling
    assert await live.variable("alpha", "FROM_FILE") == CANARIES[0]
    assert await live.variable("alpha", "KEY_FILE") == "/run/secrets/alpha.key"
    assert await live.variable("alpha", "KEY") == ""
    assert await live.variable("alpha", "TOKEN") == ""
    assert await live.variable("beta", "TOKEN") == CANARIES[1]
    assert await live.variable("beta", "KEY_FILE") == ""


async def test_a_missing_secret_stops_the_start_and_names_the_command(live: Live, engine: Engine) -> None:
    error = (await live.call("gamma", "env", name="TOKEN"))["error"]
    assert error["data"] == {"code": "secret.missing", "remedy": "run: hm secret set token --server gamma"}
    assert error["message"] == "gamma needs the secret token"
    assert list_sandboxes(engine) == []


async def test_a_secret_set_while_the_gateway_runs_is_in_the_next_sandbox(telling: Live, kept: SecretStore) -> None:
    live = telling
    assert "error" in await live.call("gamma", "env", name="TOKEN")
    kept.put(SecretId("gamma", "token"), "first-value")
    assert await live.variable("gamma", "TOKEN") == "first-value"
    kept.rotate(SecretId("gamma", "token"), "second-value")
    assert await live.variable("gamma", "TOKEN") == "first-value", "a running server keeps what it was given"
    await live.call("gamma", "crash", status=3)
    assert await live.variable("gamma", "TOKEN") == "second-value"


async def test_a_store_that_cannot_be_opened_is_a_clear_error_of_the_call(live: Live, home: Path) -> None:
    (home / "keys/secrets.key").chmod(0o644)
    error = (await live.call("alpha", "env", name="FROM_FILE"))["error"]
    assert error["data"]["code"] == "secret.permissions"


async def test_the_canary_is_in_no_log_audit_error_process_list_inspection_or_file(
    telling: Live, home: Path, engine: Engine
) -> None:
    live = telling
    for server, canary in zip(("alpha", "beta"), CANARIES, strict=True):
        await live.call(server, "echo", text="hello")
        await live.call(server, "stderr", text=f"about to fail with {canary}")
    inspected = {
        c["Labels"]["harbourmaster.server"]: json.dumps(engine.api.inspect_container(c["Id"]))
        for c in list_sandboxes(engine)
    }
    processes = _command_lines()
    gateway_environment = _of_process(live, "environ")
    for server in ("alpha", "beta"):
        await live.call(server, "crash", signal=6)
    traces = [*live.said, live.log.read_text(), inspected["alpha"], gateway_environment]
    traces += _all_files(home)
    traces += processes
    for canary in CANARIES:
        assert not [text[:300] for text in traces if canary in text]
        assert not [text[:300] for text in traces if canary[:8] in text], "not even half of one"
    assert CANARIES[1] in inspected["beta"], "a variable is shown by inspect: docs/secrets.md says so"
    assert "what is not a message" in live.log.read_text(), "the chatter was logged, without its secret"


async def test_the_gateway_dumps_no_memory_when_it_crashes(live: Live) -> None:
    await live.call("alpha", "echo", text="so that it has read a secret")
    limits = _of_process(live, "limits")
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4] == "0"
    assert int(_of_process(live, "coredump_filter"), 16) == 0


async def test_logs_of_a_sandbox_redact_the_content_of_its_files(telling: Live, home: Path) -> None:
    live = telling
    await live.call("alpha", "echo", text="start")
    reader = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "harbourmaster", "sandbox", "logs", "alpha"), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert reader.stdout is not None
    line = asyncio.create_task(reader.stdout.readline())
    while not line.done():  # until the reader is attached
        await live.call("alpha", "stderr", text=f"leak {CANARIES[0]}")
        await asyncio.wait([line], timeout=0.1)
    assert await line == b"leak [redacted]\n"
    reader.kill()
    await reader.communicate()


def _command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            found.append(path.read_text(errors="replace"))
    return found


def _of_process(live: Live, what: str) -> str:
    return Path(f"/proc/{live.pid}/{what}").read_text(errors="replace")


def _all_files(folder: Path) -> list[str]:
    return [p.read_text(errors="replace") for p in folder.rglob("*") if p.is_file()]
