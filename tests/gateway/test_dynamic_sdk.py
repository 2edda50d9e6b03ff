"""Dynamic tools with a client that we did not write: the MCP SDK's own, both eras."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import mcp_types as types
import pytest

from gateway.gateway import Gateway
from harbourmaster.core.settings import Settings
from tests.gateway.harness import Http, World, serving
from tests.gateway.test_code_mode import RUNNER, CodeWorld
from tests.gateway.test_dynamic_http import tidal_world
from tests.gateway.test_sdk_clients import over_http, text

asked: list[str] = []


async def agrees(context: Any, params: Any) -> types.ElicitResult:
    asked.append(params.message)
    allow = "allow" in params.requested_schema["properties"]
    return types.ElicitResult(action="accept", content={"allow": True} if allow else {"name": "Grace"})


@pytest.fixture
def world() -> World:
    made = tidal_world()
    found = CodeWorld(made.servers)
    found.options = {**made.options, "dynamic": True, "code": lambda: RUNNER}
    return found


@pytest.fixture
async def served(settings: Settings, world: World) -> AsyncIterator[tuple[Gateway, Http]]:
    async with serving(settings, world) as pair:
        yield pair


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_conversation_from_the_first_look_to_a_script(http: Http, mode: str) -> None:
    asked.clear()
    async with over_http(http, mode, elicitation_callback=agrees) as client:
        assert len((await client.list_tools()).tools) == 6
        found = await client.call_tool("mcp-find", {"query": "when is high tide"})
        assert found.structured_content["tools"][0]["server"] == "tides"
        added = await client.call_tool("mcp-add", {"name": "tides"})
        assert added.structured_content["state"] == "added"
        assert "tides.example:443" in asked[0]
        assert (await client.call_tool("tides__echo", {"a": 1})).structured_content == {"a": 1}
        assert '"name": "Grace"' in text(await client.call_tool("mcp-exec", {"name": "elicit"}))
        script = 'result([call("counter"), call("tides__echo", b=2)])'
        done = await client.call_tool("mcp-code", {"script": script})
        assert done.structured_content["result"] == ["1", {"b": 2}]
        refused = await client.call_tool("mcp-exec", {"name": "mcp-add"})
        assert refused.is_error is True
