"""The whole way: a client that others wrote, the gateway in a process of its own, a real server in its sandbox."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import get_default_environment
from mcp_types import TextContent

from gateway.clients.connector import connect
from gateway.clients.entry import Endpoint
from gateway.clients.places import Places, client_named
from harbourmaster.core.audit import tail

pytestmark = [pytest.mark.engine, pytest.mark.slow]

CLIENT_S = 180
TOKYO = {"timezone": "Asia/Tokyo"}
HM = (sys.executable, "-m", "harbourmaster")
STDIO = ("gateway", "run", "--transport", "stdio")


def run(command: list[str], env: dict[str, str], **more) -> str:
    done = subprocess.run(
        command, env=env, cwd=env["HOME"], capture_output=True, text=True, timeout=CLIENT_S, **{"stdin": -3, **more}
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stdout}\n{done.stderr}"
    return done.stdout


def hm(env: dict[str, str], *arguments: str) -> str:
    return run([*HM, *arguments], env)


@pytest.fixture
def env(installation, bare_env) -> dict[str, str]:
    return {**bare_env, "HM_HOME": str(installation)}


@pytest.fixture
def config(env, installation, tmp_path) -> Path:
    """The common ``mcpServers`` file, as the connector writes it, with this Python in the place of ``./hm``."""
    places = Places(home=tmp_path, cwd=tmp_path, environ={})
    endpoint = Endpoint("", HM[0], (*HM[1:], *STDIO), {"HM_HOME": str(installation)})
    return connect(client_named("claude-code"), "project", places, "stdio", endpoint, "").path


@pytest.mark.npm
@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_lists_and_calls_over_http(clients, running, era):
    header = f"Authorization: Bearer {running.token}"
    base = [*clients.inspector, running.url, "--transport", "http", "--header", header, "--protocol-era", era]
    listed = json.loads(run([*base, "--format", "json", "--method", "tools/list"], running.env))["result"]
    assert "get_current_time" in [t["name"] for t in listed["tools"]]
    call = ["--method", "tools/call", "--tool-name", "get_current_time", "--tool-args-json", json.dumps(TOKYO)]
    result = json.loads(run([*base, "--format", "json", *call], running.env))["result"]
    assert "+09:00" in result["content"][0]["text"]


@pytest.mark.npm
@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_lists_and_calls_over_stdio(clients, config, env, era):
    base = [*clients.inspector, "--config", str(config), "--server", "harbourmaster", "--protocol-era", era]
    listed = json.loads(run([*base, "--format", "json", "--method", "tools/list"], env))["result"]
    assert "get_current_time" in [t["name"] for t in listed["tools"]]
    call = ["--method", "tools/call", "--tool-name", "get_current_time", "--tool-args-json", json.dumps(TOKYO)]
    result = json.loads(run([*base, "--format", "json", *call], env))["result"]
    assert "+09:00" in result["content"][0]["text"]


@pytest.mark.npm
def test_claude_code_reports_the_gateway_connected_over_http(clients, running):
    hm(running.env, "client", "connect", "claude-code")
    listed = run([*clients.claude, "mcp", "list"], running.env)
    assert f"harbourmaster: {running.url} (HTTP) - ✔ Connected" in listed


@pytest.mark.npm
def test_claude_code_reports_the_gateway_connected_over_stdio(clients, env, installation):
    places = Places(home=Path(env["HOME"]), cwd=Path(env["HOME"]), environ={})
    endpoint = Endpoint("", HM[0], (*HM[1:], *STDIO), {"HM_HOME": str(installation)})
    connect(client_named("claude-code"), "user", places, "stdio", endpoint, "")
    listed = run([*clients.claude, "mcp", "list"], env)
    assert "✔ Connected" in listed.partition("harbourmaster:")[2]


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
async def test_the_python_sdk_lists_and_calls_over_stdio(env, mode):
    server = StdioServerParameters(
        command=HM[0], args=[*HM[1:], *STDIO], env={**get_default_environment(), "HM_HOME": env["HM_HOME"]}
    )
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(server, mode=mode))
        listed = await client.list_tools()
        assert "get_current_time" in [t.name for t in listed.tools]
        result = await client.call_tool("get_current_time", TOKYO)
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert "+09:00" in content.text


def test_hm_call_prints_tokyos_time_through_the_running_gateway(running):
    called = json.loads(hm(running.env, "call", "time.get_current_time", "timezone=Asia/Tokyo"))
    assert called["datetime"].endswith("+09:00")


def test_a_second_hm_call_finds_the_sandbox_of_the_first(running, sandboxes_of):
    hm(running.env, "call", "time.get_current_time", "timezone=UTC")
    first = sandboxes_of(running.process.pid)
    hm(running.env, "call", "time.convert_time", "source_timezone=UTC", "time=12:00", "target_timezone=Asia/Tokyo")
    assert first == sandboxes_of(running.process.pid)
    assert len(first) == 1


def test_hm_call_without_a_gateway_starts_one_and_leaves_nothing(env, installation, sandboxes_of_home):
    before = sandboxes_of_home()
    nowhere = {**env, "HM_GATEWAY_PORT": "9"}
    called = json.loads(hm(nowhere, "call", "time.get_current_time", "timezone=Asia/Tokyo"))
    assert called["datetime"].endswith("+09:00")
    assert sandboxes_of_home() == before
    stopped = [r for r in tail(installation / "audit", 20) if r["kind"] == "sandbox" and r["event"] == "stop"]
    assert stopped[-1]["server"] == "time"


def test_what_the_server_refuses_reaches_the_person(running):
    with pytest.raises(AssertionError, match=r"error \[tool.failed\]: time.get_current_time: .*Mars"):
        hm(running.env, "call", "time.get_current_time", "timezone=Mars/Olympus")
