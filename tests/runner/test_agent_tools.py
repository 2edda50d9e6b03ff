"""Which tools a model is told of, when it cannot read about all."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest

from harbourmaster.core.settings import Settings
from runner.agent.events import Tool
from runner.agent.reader import Reader, count, read_facts
from runner.agent.relevance import SHARE, estimate, named, offer, rank, words
from tests.gateway import backend
from tests.gateway.harness import World, locked, serving
from tests.runner.conftest import Server

TIME = Tool("get_current_time", "Get current time in a specific timezone")
CONVERT = Tool("convert_time", "Convert time between timezones")
FETCH = Tool("fetch", "Fetches a URL from the internet and extracts its contents as markdown. " * 8)
COMMIT = Tool("git_commit", "Records changes to the repository")
SEARCH = Tool("search_nodes", "Search for nodes in the knowledge graph based on a query. " * 8)
WRITE = Tool("write_file", "Create a new file or overwrite an existing file. Takes time when large. " * 8)
TOOLS = [FETCH, COMMIT, SEARCH, WRITE, CONVERT, TIME]
ALL = sum(map(estimate, TOOLS))


@pytest.mark.parametrize(
    ("task", "best"),
    [
        ("What time is it in Tokyo?", {"get_current_time", "convert_time"}),
        ("Fetch https://example.com and summarise it", {"fetch"}),
        ("commit my changes", {"git_commit"}),
        ("Search the graph for Alice", {"search_nodes"}),
        ("please overwrite notes.txt", {"write_file"}),
    ],
)
def test_the_tools_nearest_to_the_task_come_first(task: str, best: set[str]) -> None:
    assert {t.name for _, t in rank(TOOLS, task)[: len(best)]} == best


def test_all_tools_are_offered_where_the_model_can_read_about_them() -> None:
    for room in (0, int(ALL / SHARE) + 1):
        offered = offer(TOOLS, "What time is it?", room=room)
        assert (offered.tools, offered.chosen) == (tuple(TOOLS), False)


def test_where_it_cannot_the_nearest_are_and_the_line_says_so() -> None:
    offered = offer(TOOLS, "What time is it in Tokyo?", room=ALL)
    assert {t.name for t in offered.tools} == {"get_current_time", "convert_time"}
    assert "2 of 6 tools" in offered.line()
    assert f"{ALL:,} tokens" in offered.line()
    assert "--tool" in offered.line()


def test_what_a_conversation_used_stays_offered() -> None:
    offered = offer(TOOLS, "What time is it?", room=ALL, used=frozenset({"git_commit"}))
    assert "git_commit" in {t.name for t in offered.tools}


def test_a_task_that_names_nothing_gets_what_fits() -> None:
    offered = offer(TOOLS, "hmm", room=ALL)
    assert 0 < len(offered.tools) < len(TOOLS)
    assert sum(map(estimate, offered.tools)) <= ALL / 2


def test_descriptions_larger_than_the_room_offer_nothing_rather_than_too_much() -> None:
    assert offer([FETCH], "fetch it", room=40).tools == ()


def test_a_small_model_must_begin_with_a_tool_only_if_the_task_names_one() -> None:
    assert named(TOOLS, "What time is it in Tokyo?")
    assert not named(TOOLS, "Who are you?")


def test_words_lose_what_does_not_matter() -> None:
    assert words("getCurrentTime of the Repositories") == frozenset({"current", "time", "repository"})


@pytest.mark.parametrize(
    ("body", "reader"),
    [
        ({"dmr": {"context_window": 8192, "parameters": "134.5M"}}, Reader(8192, 134_500_000)),
        ({"max_model_len": 4096}, Reader(4096, 0)),
        ({"meta": {"n_ctx": 2048, "n_params": 7_000_000_000}}, Reader(2048, 7_000_000_000)),
        ({"dmr": {"context_window": "many"}}, Reader()),
        ({"dmr": 7, "meta": []}, Reader()),
        (["x"], Reader()),
    ],
)
def test_what_servers_say_about_a_model(body: object, reader: Reader) -> None:
    assert read_facts(body) == reader


def test_sizes_are_read() -> None:
    assert [count(t) for t in ("135M", "1.71B", "7 B", "", None, "large", 12)] == [
        135_000_000, 1_710_000_000, 7_000_000_000, 0, 0, 0, 12
    ]  # fmt: skip


# -- the command, a gateway with more than the model can read, and the starter model

NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
MANY = [backend.tool("counter", inputSchema=NOTHING), *(backend.tool(f"part_{i}") for i in range(60))]
for _tool in MANY[1:]:
    _tool["description"] = "Looks after one of the parts of the machine, whatever it is that it needs. " * 8


@pytest.mark.slow
async def test_a_task_that_would_not_fit_with_all_tools_is_done_with_those_that_it_names(
    settings: Settings, server: Server
) -> None:
    world = World(
        {"alpha": locked("alpha", backend.listing("alpha", tools=MANY), run={"command": [json.dumps({"tools": MANY})]})}
    )
    async with serving(settings, world) as (_, http):
        environment = {
            **os.environ,
            "HM_HOME": str(settings.home),
            "HM_GATEWAY_URL": http.url,
            "HM_GATEWAY_TOKEN": http.token,
            "HM_MODEL_URL": server.url,
        }
        words = [
            "Count with the counter.",
            "--approve",
            "always",
            "--rounds",
            "2",
            "--tokens",
            "120",
            "--temperature",
            "0",
            "--json",
        ]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "harbourmaster", "agent", "run", *words,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        )  # fmt: skip
        out, err = await process.communicate()
    said = json.loads(out)
    assert "1 of 61 tools are offered" in err.decode()
    assert "has to begin with a tool" in err.decode()
    assert (said["calls"], said["code"]) == (1, ""), said
    assert [call["tool"] for call in world.calls()] == ["counter"]
