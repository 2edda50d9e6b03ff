"""The catalog's database locked by somebody else, or out of reach: dynamic tools say so, and every other call goes on."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from catalog.store import Store
from gateway.dynamic import conversation
from gateway.dynamic.catalog import Aside, CatalogSearch
from gateway.dynamic.errors import CatalogUnavailable
from gateway.gateway import Gateway
from harbourmaster.core import db
from harbourmaster.core.settings import Settings
from tests.gateway.harness import Http, World, locked, serving, tool_call
from tests.gateway.test_dynamic_http import call, code


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A locked database is given up soon."""
    monkeypatch.setattr(db, "BUSY_TIMEOUT_MS", 50)


@contextlib.contextmanager
def held(settings: Settings) -> Iterator[None]:
    """Another process's exclusive lock: not even readers get in."""
    Store.open(settings).close()
    other = sqlite3.connect(settings.database_file, isolation_level=None)
    try:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


@contextlib.asynccontextmanager
async def dynamic(settings: Settings) -> AsyncIterator[tuple[Gateway, Http, World]]:
    world = World({"alpha": locked("alpha"), "beta": locked("beta")})
    catalog = CatalogSearch(settings)
    world.options = {"dynamic": True, "catalog": catalog.search}
    async with serving(settings, world) as (gateway, http):
        yield gateway, http, world
    catalog.close()


@pytest.mark.usefixtures("patience")
async def test_a_locked_database_is_a_clear_error_of_the_dynamic_tools(settings: Settings) -> None:
    with held(settings):
        async with dynamic(settings) as (_, http, world):
            session = await http.initialize()
            unknown = await call(http, session, "mcp-find", query="xylophone")
            assert code(unknown) == "dynamic.catalog_unavailable"
            error = unknown["structuredContent"]["error"]
            assert "locked by another process" in error["message"]
            assert str(settings.home) not in str(unknown)  # where it lies is no caller's business
            for tool in ("mcp-add", "mcp-config-set"):
                given = {"name": "xylophone"} if tool == "mcp-add" else {"server": "xylophone", "values": {}}
                refused = await call(http, session, tool, **given)
                assert code(refused) == "dynamic.catalog_unavailable", tool
                assert "xylophone is not locked here" in refused["structuredContent"]["error"]["message"]
            assert [r["notes"] for r in world.calls()] == [["dynamic.catalog_unavailable"]] * 3


@pytest.mark.usefixtures("patience")
async def test_what_needs_no_catalog_works_while_its_database_is_locked(settings: Settings) -> None:
    with held(settings):
        async with dynamic(settings) as (_, http, _world):
            session = await http.initialize()
            found = (await call(http, session, "mcp-find", query="count"))["structuredContent"]
            assert "counter" in str(found["tools"])
            assert "dynamic.catalog_unavailable" in found["note"]
            assert (await call(http, session, "mcp-exec", name="alpha__counter"))["content"][0]["text"] == "1"
            assert "added" in str(await call(http, session, "mcp-add", name="beta"))


async def test_calls_are_answered_while_many_searches_wait_for_the_lock(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More searches than there are threads: whoever waits for the database keeps nobody else from theirs."""
    monkeypatch.setattr(db, "BUSY_TIMEOUT_MS", 250_000)
    monkeypatch.setattr(conversation, "Aside", functools.partial(Aside, 250.0))
    with held(settings):
        async with dynamic(settings) as (_, http, _world):
            session = await http.initialize()
            searches = [
                asyncio.create_task(
                    http.call(session, "tools/call", tool_call("mcp-find", {"query": f"xylophone {n}"}), f"find-{n}")
                )
                for n in range(40)
            ]
            for _ in range(3):  # new sessions: admission and a start, which need threads
                fresh = await http.initialize()
                done = await call(http, fresh, "mcp-exec", name="beta__counter")
                assert done["content"][0]["text"] == "1"
            assert not any(search.done() for search in searches)
            for number in range(len(searches)):
                body = {
                    "jsonrpc": "2.0",
                    "method": "notifications/cancelled",
                    "params": {"requestId": f"find-{number}"},
                }
                await http.request(body=body, Mcp_Session_Id=session)
            for answer in await asyncio.gather(*searches):
                assert answer["error"]["data"]["code"] == "gateway.call_cancelled"


@pytest.mark.usefixtures("patience")
async def test_the_catalog_is_searched_again_when_the_lock_is_gone(settings: Settings) -> None:
    async with dynamic(settings) as (_, http, _world):
        session = await http.initialize()
        with held(settings):
            assert code(await call(http, session, "mcp-find", query="xylophone")) == "dynamic.catalog_unavailable"
        found = await call(http, session, "mcp-find", query="xylophone")
        assert found["structuredContent"] == {"tools": [], "servers": []}


async def test_a_postgresql_server_that_cannot_be_reached_is_the_same_error(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"database_url": "postgresql://nobody:hunter2@127.0.0.1:1/none"})
    async with dynamic(nowhere) as (_, http, _world):
        session = await http.initialize()
        refused = await call(http, session, "mcp-find", query="xylophone")
        assert code(refused) == "dynamic.catalog_unavailable"
        assert "hunter2" not in str(refused)
        assert (await call(http, session, "mcp-exec", name="alpha__counter"))["content"][0]["text"] == "1"


async def test_a_question_that_is_never_answered_ends_and_those_behind_it_too() -> None:
    aside, gate = Aside(answer_s=0.05), asyncio.Event()
    loop = asyncio.get_running_loop()

    def forever() -> Any:
        return asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()

    asked = [asyncio.create_task(aside.ask(forever)) for _ in range(5)]
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(answer, CatalogUnavailable)
    gate.set()
    aside.close()


def test_a_locked_database_is_said_to_be_locked(settings: Settings, patience: None) -> None:
    with held(settings), pytest.raises(db.DatabaseUnavailable) as refused, Store.open(settings).reading():
        pass
    assert "locked" in refused.value.message
    assert "another process" in refused.value.remedy
