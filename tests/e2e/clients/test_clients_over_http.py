"""Clients that others wrote, against the gateway's HTTP edge.  The servers behind it are plain processes: no engine."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.lock import write_lock
from gateway.tokens import CLIENTS, TokenStore
from harbourmaster.core.settings import Settings
from tests.gateway.harness import World, locked, serving

pytestmark = [pytest.mark.npm, pytest.mark.slow]

ERAS = ("legacy", "modern", "auto")
CLIENT_S = 120


@dataclass(frozen=True)
class Served:
    home: Path
    port: int
    token: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"


@pytest.fixture
def served(settings: Settings) -> Iterator[Served]:
    """A gateway in a thread, with one small server of the tests behind it."""
    ready: list[Served] = []
    started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        world = World({"alpha": locked("alpha")})
        write_lock(settings.lock_file, world.servers)
        async with serving(settings, world) as (_, http):
            ready.append(Served(settings.home, http.port, http.token))
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(60)
    yield ready[0]
    stop.set()
    thread.join(60)


def run(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=env, cwd=env["HOME"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CLIENT_S
    )
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stdout}\n{done.stderr}"
    return done.stdout


def inspect(clients, served: Served, era: str, env: dict[str, str], *more: str, token: str | None = None) -> dict:
    header = f"Authorization: Bearer {token or served.token}"
    base = [*clients.inspector, served.url, "--transport", "http", "--header", header, "--protocol-era", era]
    return json.loads(run([*base, "--format", "json", *more], env))["result"]


@pytest.mark.parametrize("era", ERAS)
def test_the_inspector_lists_and_calls_tools(clients, served, bare_env, era):
    tools = inspect(clients, served, era, bare_env, "--method", "tools/list")["tools"]
    assert "echo" in [t["name"] for t in tools]
    call = ("--method", "tools/call", "--tool-name", "echo", "--tool-args-json", '{"text": "ahoy"}')
    result = inspect(clients, served, era, bare_env, *call)
    assert json.loads(result["content"][0]["text"]) == {"text": "ahoy"}


def test_the_inspector_reads_resources_and_prompts(clients, served, bare_env):
    assert inspect(clients, served, "legacy", bare_env, "--method", "resources/list")["resources"]
    assert inspect(clients, served, "legacy", bare_env, "--method", "prompts/list")["prompts"]


def test_the_inspector_is_refused_with_another_token(clients, served, bare_env):
    with pytest.raises(AssertionError, match="auth"):
        inspect(clients, served, "legacy", bare_env, "--stored-auth-only", "--method", "tools/list", token="hm_other")


def test_claude_code_connects_as_hm_client_connect_configured_it(clients, served, bare_env):
    env = {**bare_env, "HM_HOME": str(served.home), "HM_GATEWAY_PORT": str(served.port)}
    before = run([*clients.claude, "mcp", "list"], env)
    assert "harbourmaster" not in before
    run([sys.executable, "-m", "harbourmaster", "client", "connect", "claude-code"], env)
    listed = run([*clients.claude, "mcp", "list"], env)
    assert f"harbourmaster: {served.url} (HTTP)" in listed
    assert "Connected" in listed.partition("harbourmaster:")[2]
    run([sys.executable, "-m", "harbourmaster", "client", "disconnect", "claude-code"], env)
    assert "harbourmaster" not in run([*clients.claude, "mcp", "list"], env)


def test_hm_client_connect_writes_what_claude_code_writes_itself(clients, served, bare_env):
    env = {**bare_env, "HM_HOME": str(served.home), "HM_GATEWAY_PORT": str(served.port)}
    config = Path(env["HOME"]) / ".claude.json"
    run([sys.executable, "-m", "harbourmaster", "client", "connect", "claude-code"], env)
    ours = json.loads(config.read_text())["mcpServers"]["harbourmaster"]
    token = TokenStore(Settings.load(home=served.home).tokens_file).kept(CLIENTS)
    header = f"Authorization: Bearer {token}"
    add = ["mcp", "add", "--scope", "user", "--transport", "http", "reference", served.url, "--header", header]
    run([*clients.claude, *add], env)
    assert json.loads(config.read_text())["mcpServers"]["reference"] == ours
