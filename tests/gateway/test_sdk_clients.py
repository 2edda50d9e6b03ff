"""Clients that we did not write: the MCP SDK's own, both eras, both transports."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ToolsListChanged, listen

from tests.gateway.harness import Http, World
from tests.gateway.test_stdio import PROGRAM, ROOT

ERAS = [("legacy", "2025-11-25"), ("auto", "2026-07-28")]


async def elicited(context: Any, params: Any) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"name": "Grace"})


async def sampled(context: Any, params: Any) -> types.CreateMessageResult:
    content = types.TextContent(type="text", text="sampled")
    return types.CreateMessageResult(role="assistant", content=content, model="none")


async def rooted(context: Any) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri="file:///tmp", name="tmp")])


CALLBACKS = {"elicitation_callback": elicited, "sampling_callback": sampled, "list_roots_callback": rooted}


@contextlib.asynccontextmanager
async def over_http(http: Http, mode: str, **more: Any) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {http.token}"}, timeout=20) as carrier:
        transport = streamable_http_client(http.url, http_client=carrier)
        async with Client(transport, mode=mode, **more) as client:  # type: ignore[arg-type]
            yield client


@contextlib.asynccontextmanager
async def over_stdio(mode: str, **more: Any) -> AsyncIterator[Client]:
    started = StdioServerParameters(command=PROGRAM[0], args=list(PROGRAM[1:]), cwd=ROOT, env=dict(os.environ))
    async with Client(stdio_client(started), mode=mode, **more) as client:  # type: ignore[arg-type]
        yield client


def text(result: Any) -> str:
    return str(result.content[0].text)


@pytest.mark.parametrize(("mode", "version"), ERAS)
async def test_everything_a_client_does_works_over_http(http: Http, mode: str, version: str) -> None:
    async with over_http(http, mode, **CALLBACKS) as client:
        assert client.session.protocol_version == version
        assert client.instructions == "# alpha\n\nUse alpha well."
        assert "echo" in {t.name for t in (await client.list_tools()).tools}
        result = await client.call_tool("echo", {"a": [1, None]})
        assert result.structured_content == {"a": [1, None]}
        prompt = await client.get_prompt("greet", {"who": "Bo"})
        assert prompt.messages[0].content.text == "greet Bo"  # type: ignore[union-attr]
        read = await client.read_resource("note://by/ada")
        assert read.contents[0].text == "alpha note://by/ada"  # type: ignore[union-attr]
        assert [r.uri for r in (await client.list_resources()).resources] == ["note://one"]
        assert len((await client.list_resource_templates()).resource_templates) == 1
        completed = await client.complete(
            types.PromptReference(type="ref/prompt", name="greet"), {"name": "who", "value": ""}
        )
        assert completed.completion.values == ["greet"]
        assert '"name": "Grace"' in text(await client.call_tool("elicit"))
        assert "sampled" in text(await client.call_tool("sample"))
        assert "file:///tmp" in text(await client.call_tool("roots"))


@pytest.mark.parametrize(("mode", "version"), ERAS)
async def test_everything_a_client_does_works_over_stdio(home: Path, mode: str, version: str) -> None:
    async with over_stdio(mode, **CALLBACKS) as client:
        assert client.session.protocol_version == version
        assert "alpha__echo" in {t.name for t in (await client.list_tools()).tools}
        assert (await client.call_tool("beta__echo", {"a": 1})).structured_content == {"a": 1}
        assert '"name": "Grace"' in text(await client.call_tool("alpha__elicit"))
        assert "sampled" in text(await client.call_tool("alpha__sample"))


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_progress_reaches_the_client_s_callback(http: Http, mode: str) -> None:
    seen: list[float] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with over_http(http, mode) as client:
        await client.call_tool("progress", progress_callback=progressed)
    assert seen == [1, 2]


@pytest.mark.parametrize(("mode", "level"), [("legacy", None), ("auto", "debug")])
async def test_log_messages_reach_the_client_s_callback(http: Http, mode: str, level: Any) -> None:
    seen: list[str] = []

    async def logged(params: types.LoggingMessageNotificationParams) -> None:
        seen.append(params.level)

    async with over_http(http, mode, logging_callback=logged, log_level=level) as client:
        await client.call_tool("log", {"n": 1})
    assert seen == ["debug", "warning"]


async def test_a_modern_client_listens_for_changes(http: Http) -> None:
    async with over_http(http, "auto") as client, listen(client.session, tools_list_changed=True) as changes:
        await client.call_tool("touch")
        async for change in changes:
            assert isinstance(change, ToolsListChanged)
            break


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_two_clients_of_one_token_have_their_own_sandboxes(http: Http, world: World, mode: str) -> None:
    names = [types.Implementation(name=name, version="1") for name in ("one", "two")]
    async with over_http(http, mode, client_info=names[0]) as one, over_http(http, mode, client_info=names[1]) as two:
        assert [text(await one.call_tool("counter")) for _ in range(2)] == ["1", "2"]
        assert text(await two.call_tool("counter")) == "1"
    assert len(world.started) == 2
