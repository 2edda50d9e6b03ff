"""``mcp-find`` over the whole catalog: the real one, of this project's own servers."""

from __future__ import annotations

import json

from catalog import service
from catalog.store import Store
from gateway.dynamic.catalog import CatalogSearch
from gateway.dynamic.find import ToolSearch, fitting, from_catalog
from harbourmaster.core.settings import Settings
from tests.gateway import backend
from tests.gateway.harness import locked


def test_servers_of_the_catalog_are_found_unless_they_are_locked_here(settings: Settings) -> None:
    store = Store.open(settings)
    service.add_source(store, "starters", "servers", str(settings.servers_dir))
    service.sync_source(store, settings, "starters")
    store.close()
    catalog = CatalogSearch(settings)
    try:
        found = from_catalog(catalog.search, "what time is it", 5, known=())
        assert found[0]["name"] == "time"
        assert {"title", "description", "tier", "kind"} <= set(found[0])
        assert "time" not in {c["name"] for c in from_catalog(catalog.search, "what time is it", 5, known=["time"])}
    finally:
        catalog.close()


async def test_tools_are_found_by_what_they_do_by_their_arguments_and_in_spite_of_a_slip() -> None:
    tools = [
        backend.tool("get_forecast", description="Weather forecast for a place"),
        backend.tool("convert_time", description="Convert a time between time zones"),
        backend.tool("send", description="Deliver it", inputSchema={"properties": {"recipient": {}, "subject": {}}}),
    ]
    lock = {"a": locked("a", backend.listing("a", tools=tools))}

    async def first(query: str) -> str:
        (found,) = await ToolSearch().find(query, lock, lambda each: True, 1)
        return str(found.tool["name"])

    assert await first("weather tomorrow") == "get_forecast"
    assert await first("weahter") == "get_forecast"
    assert await first("time zones") == "convert_time"
    assert await first("recipient") == "send"
    assert await ToolSearch().find("zzzzqqq", lock, lambda each: True, 3) == []
    assert await ToolSearch().find("weather", {}, lambda each: True, 3) == []
    assert await ToolSearch().find("weather", lock, lambda each: False, 3) == []


def test_a_schema_that_would_fill_the_answer_is_cut_to_its_arguments_names() -> None:
    small = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert fitting(small) is small
    large = {"type": "object", "properties": {f"a{n}": {"description": "x" * 500} for n in range(60)}}
    assert list(fitting(large)["properties"])[:2] == ["a0", "a1"]
    assert len(json.dumps(fitting(large))) < 8 << 10
