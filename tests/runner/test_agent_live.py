"""The whole chain: `hm agent`, the starter model, the gateway, a server in its sandbox."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.tokens import TokenStore
from harbourmaster.compose import starter
from harbourmaster.core.settings import Settings
from runner.agent import tools
from runner.agent.console import parse_fixed
from runner.agent.gateway import gateway_token, gateway_url
from runner.agent.tools import connect
from runner.errors import RequestInvalid, ToolsRefused, ToolsUnavailable
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.reaper import ALL, reap
from tests.fixtures.images import build_echo_image
from tests.gateway.harness import Http, World, serving
from tests.gateway.live import echo_server
from tests.runner.conftest import Server, free_port


class RealWorld(World):
    """Sandboxes in place of the harness's subprocesses."""

    running = 0


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = Engine.connect(settings)
    yield engine
    reap(engine, owner=ALL)
    engine.close()


@dataclass
class Dock:
    http: Http
    world: World
    home: Path
    model_url: str

    async def agent(self, *words: str, line: str = "") -> tuple[int, str, str]:
        """`hm agent WORDS`; status, stdout, stderr."""
        environment = {
            **os.environ,
            "HM_HOME": str(self.home),
            "HM_GATEWAY_URL": self.http.url,
            "HM_GATEWAY_TOKEN": self.http.token,
            "HM_MODEL_URL": self.model_url,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "harbourmaster", "agent", *words,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
        )  # fmt: skip
        out, err = await process.communicate(line.encode())
        return process.returncode or 0, out.decode(), err.decode()

    async def report(self, *words: str) -> dict[str, Any]:
        status, out, err = await self.agent("run", *words, "--json", "--temperature", "0")
        body: dict[str, Any] = json.loads(out)
        assert status == (0 if body["outcome"] == "answered" else 1), err
        return body

    def mode(self, report: dict[str, Any]) -> int:
        return Path(report["transcript"]).stat().st_mode & 0o777

    def lines(self, report: dict[str, Any]) -> list[dict[str, Any]]:
        return [json.loads(line) for line in Path(report["transcript"]).read_text().splitlines()]


@pytest.fixture
async def dock(settings: Settings, engine: Engine, server: Server) -> AsyncIterator[Dock]:
    profile = Profile.load()
    image = await asyncio.to_thread(build_echo_image, engine)
    world = RealWorld({"echo": echo_server("echo", image, profile)})
    world.start = starter(engine, profile, world.append)  # type: ignore[method-assign,assignment]
    async with serving(settings, world) as (_, http):
        yield Dock(http, world, settings.home, server.url)


@pytest.mark.engine
@pytest.mark.slow
async def test_the_starter_model_calls_a_sandboxed_tool_where_the_grammar_leaves_only_right_choices(dock: Dock) -> None:
    said = await dock.report(
        "Say ahoy with the tool.", "--tool", "echo", "--tool-choice", "required", "--set", "echo.text=ahoy",
        "--approve", "always", "--rounds", "2", "--tokens", "200",
    )  # fmt: skip
    assert (said["calls"], said["failed_calls"], said["refused_calls"]) == (1, 0, 0)
    [call] = dock.world.calls()
    assert (call["server"], call["tool"], call["outcome"]) == ("echo", "echo", "ok")
    lines = dock.lines(said)
    [answer] = [line for line in lines if line["kind"] == "call" and line["what"] == "answered"]
    assert answer["result"]["text"] == "ahoy"
    read = [line["message"] for line in lines if line["kind"] == "message" and line["message"]["role"] == "tool"]
    assert [m["content"] for m in read] == ["ahoy"]
    assert dock.mode(said) == 0o600


@pytest.mark.engine
@pytest.mark.slow
async def test_where_the_model_must_choose_the_report_says_what_really_happened(dock: Dock) -> None:
    """A model of 135 million parameters chooses badly; what is tested is that nobody claims otherwise."""
    said = await dock.report(
        "Return the text hello with the echo tool.", "--tool", "echo", "--tool", "sleep", "--tool", "env",
        "--tool-choice", "required", "--set", "sleep.ms=1", "--approve", "always", "--rounds", "3", "--tokens", "400",
    )  # fmt: skip
    recorded = dock.world.calls()
    assert said["calls"] == len(recorded) >= 1
    lines = dock.lines(said)
    answers = [line for line in lines if line["kind"] == "call" and line["what"] == "answered"]
    assert said["failed_calls"] == sum(a["result"]["is_error"] for a in answers)
    assert [a["name"] for a in answers] == [r["tool"] for r in recorded]
    assert said["outcome"] in ("answered", "budget", "no_answer", "no_usable_call")
    assert bool(said["answer"]) >= (said["outcome"] == "answered")
    if said["failed_calls"] == said["calls"] and said["outcome"] == "answered":
        assert "every call that it made failed" in said["why"]


@pytest.mark.engine
@pytest.mark.slow
async def test_a_pattern_that_names_no_tool_starts_nothing(dock: Dock) -> None:
    status, _, err = await dock.agent("run", "Hi", "--tool", "nothing__*")
    assert status == 2
    assert "no tool is named nothing__*" in err
    assert "Traceback" not in err
    assert not (dock.home / "agents").exists()


@pytest.mark.engine
@pytest.mark.slow
async def test_a_call_that_nobody_approves_never_reaches_the_sandbox(dock: Dock) -> None:
    said = await dock.report(
        "Say ahoy.", "--tool", "echo", "--tool-choice", "required", "--set", "echo.text=ahoy", "--rounds", "1"
    )
    assert (said["calls"], said["refused_calls"]) == (0, 1)
    assert said["outcome"] == "budget"
    assert dock.world.calls() == []


@pytest.mark.engine
@pytest.mark.slow
async def test_a_run_is_resumed_with_what_was_said_before(dock: Dock) -> None:
    first = await dock.report("Remember the word ahoy.", "--tool-choice", "none", "--tokens", "8")
    status, _, err = await dock.agent(
        "run", "And now?", "--resume", "last", "--tool-choice", "none", "--tokens", "4", "--temperature", "0"
    )
    assert status == 1, "four tokens are no whole answer, and the report says so"
    assert "budget" in err
    _, out, _ = await dock.agent("show", first["run"])
    kept = json.loads(out)
    assert [m["content"] for m in kept["messages"] if m["role"] == "user"] == ["Remember the word ahoy.", "And now?"]
    assert [r["outcome"] for r in kept["reports"]] == ["budget", "budget"]
    status, listing, _ = await dock.agent("ls")
    assert first["run"] in listing


@pytest.mark.engine
@pytest.mark.slow
async def test_a_conversation_keeps_its_tools_and_ends_with_bye(dock: Dock) -> None:
    status, out, err = await dock.agent("chat", "--tokens", "12", "--temperature", "0", line="/tools\nHello\n/bye\n")
    assert status == 0, err
    assert "echo: Return the text" in err
    assert "1 round" in err
    assert out.strip()


async def test_the_caller_s_own_errors_come_out_of_the_connection_as_they_are(settings: Settings) -> None:
    async with serving(settings, World({})) as (_, http):
        with pytest.raises(KeyError, match="mine"):
            async with connect(http.url, http.token):
                raise KeyError("mine")


def test_a_profile_has_its_own_address_and_a_strange_name_none(settings: Settings) -> None:
    base = f"http://127.0.0.1:{settings.gateway_port}/mcp"
    assert gateway_url(settings, "", "") == base
    assert gateway_url(settings, "", "work") == f"{base}/work"
    assert gateway_url(settings, "http://x/mcp/", "work") == "http://x/mcp/work"
    for name in ("../admin", "a/b", "a?b", "%2e%2e"):
        with pytest.raises(RequestInvalid):
            gateway_url(settings, "", name)


def test_fixed_arguments_are_json_where_they_can_be_read_so() -> None:
    fixed = parse_fixed(("time__now.zone=Asia/Tokyo", "t.n=3", "t.flag=true", 't.text="3"'))
    assert fixed == {"time__now": {"zone": "Asia/Tokyo"}, "t": {"n": 3, "flag": True, "text": "3"}}
    for line in ("t=3", ".n=3", "t.=3", "t.n"):
        with pytest.raises(RequestInvalid):
            parse_fixed((line,))


def test_the_gateway_s_default_token_is_found_where_the_gateway_keeps_it(settings: Settings) -> None:
    assert gateway_token(settings) == ""
    made = TokenStore(settings.tokens_file).default()
    assert gateway_token(settings) == made


async def test_a_gateway_that_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "LIST_S", 0.2)

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()

    silent = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        with pytest.raises(ToolsUnavailable, match="no gateway answers"):
            async with connect(f"http://127.0.0.1:{port}/mcp", "x"):
                pass


async def test_a_wrong_token_and_a_missing_gateway_are_named(settings: Settings) -> None:
    async with serving(settings, World({})) as (_, http):
        with pytest.raises(ToolsRefused, match="refuses the token"):
            async with connect(http.url, "wrong"):
                pass
        with pytest.raises(ToolsUnavailable, match="no MCP endpoint"):
            async with connect(f"http://127.0.0.1:{http.port}/nothing/here", http.token):
                pass
    with pytest.raises(ToolsUnavailable, match="no gateway answers"):
        async with connect(f"http://127.0.0.1:{free_port()}/mcp", http.token):
            pass
