"""What the pool decides, without sandboxes: demand, shares of the budget, places."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import TooManySandboxes
from gateway.pool_demand import BURST_S, Demand, Footprints, Want, share_out
from gateway.pool_places import Caps, Places
from gateway.pool_promise import Promise
from gateway.pool_repeat import is_repeatable
from tests.gateway import backend
from tests.gateway.harness import locked, until

IDLE_S = 300.0


def used(times: int, at: float = 0.0) -> Demand:
    demand = Demand()
    for _ in range(times):
        demand.used(at)
    return demand


def test_as_many_are_wanted_as_the_largest_recent_burst_used() -> None:
    demand = used(3, at=100)
    demand.used(100 + 2 * BURST_S)
    assert demand.wanted(130, IDLE_S, 8) == 3
    assert demand.wanted(130, IDLE_S, 2) == 2
    assert demand.wanted(100 + IDLE_S + BURST_S, IDLE_S, 8) == 1, "the large burst is long ago"
    assert demand.wanted(1000, IDLE_S, 8) == 0
    assert used(5).wanted(1, IDLE_S, 0) == 0


def test_a_client_that_is_back_makes_one_wanted_again() -> None:
    demand = used(3)
    demand.expected(5000)
    assert demand.wanted(5001, IDLE_S, 8) == 1


def test_what_cannot_be_made_is_tried_ever_more_seldom() -> None:
    demand = used(1)
    demand.failed(0)
    assert (demand.wanted(BURST_S, IDLE_S, 4), demand.wanted(2 * BURST_S, IDLE_S, 4)) == (0, 1)
    demand.failed(20)
    assert (demand.wanted(59, IDLE_S, 4), demand.wanted(60, IDLE_S, 4)) == (0, 1)


def test_the_budget_goes_to_one_of_each_first_and_to_the_latest_used() -> None:
    wants = [Want("old", 3, 1.0, 100.0), Want("new", 3, 9.0, 100.0), Want("huge", 1, 5.0, 1000.0)]
    assert share_out(wants, 350.0, 10) == {"new": 2, "old": 1}
    assert share_out(wants, 100.0, 10) == {"new": 1}
    assert share_out(wants, 10_000.0, 2) == {"new": 1, "huge": 1}
    assert share_out([], 100.0, 10) == {}


def test_what_was_weighed_counts_as_it_weighs() -> None:
    weights = Footprints()
    assumed = weights.total({"a": 2})
    weights.measured("a", 10.0)
    assert (weights.total({"a": 2}), weights.total({"b": 2})) == (20.0, assumed)


def places(total: int = 2, per_server: int = 2, queue: int = 9, wait_s: float = 30.0) -> Places:
    return Places(Caps(total, per_server, queue, wait_s), lambda server: False)


async def test_places_are_given_in_the_order_of_asking_past_those_that_cannot_have_one_yet() -> None:
    found = places(total=2, per_server=1)
    await found.take("a")
    await found.take("b")
    order: list[str] = []

    async def ask(name: str, server: str) -> None:
        await found.take(server)
        order.append(name)

    tasks = [asyncio.create_task(ask(name, server)) for name, server in (("1", "a"), ("2", "c"), ("3", "a"))]
    await until(lambda: found.waiting == 3)
    assert not found.take_now("c"), "nobody overtakes who waits"
    found.free("b")
    await until(lambda: order == ["2"])
    found.free("a")
    await until(lambda: order == ["2", "1"])
    found.free("a")
    await asyncio.gather(*tasks)
    assert (order, found.taken, found.waiting) == (["2", "1", "3"], 2, 0)


async def test_who_gives_up_waiting_keeps_no_place() -> None:
    found = places(total=1)
    await found.take("a")
    waiting = asyncio.create_task(found.take("a"))
    await until(lambda: found.waiting == 1)
    found.free("a")  # granted, and cancelled in the same turn
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (found.taken, found.waiting) == (0, 0)


async def test_waiting_has_an_end() -> None:
    found = places(total=1, wait_s=0.01)
    await found.take("a")
    with pytest.raises(TooManySandboxes, match="none became free"):
        await found.take("b")
    assert (found.taken, found.waiting, found.refused) == (1, 0, 1)


def test_promises_that_say_the_same_are_the_same_whatever_their_order() -> None:
    one = Promise.make("2025-11-25", {"roots": {}, "sampling": {}}, {"name": "a", "version": "1"})
    same = Promise.make("2025-11-25", {"sampling": {}, "roots": {}}, {"version": "1", "name": "a"})
    other = Promise.make("2025-11-25", {"sampling": {}}, {"name": "a", "version": "1"})
    assert one.key == same.key
    assert len({one.key, other.key, Promise.make("2025-06-18", {}, {}).key}) == 3


def test_only_what_says_that_it_may_is_done_twice() -> None:
    tools = [
        backend.tool("reads", annotations={"readOnlyHint": True}),
        backend.tool("again", annotations={"idempotentHint": True}),
        backend.tool("once", annotations={"idempotentHint": "yes", "destructiveHint": False}),
        backend.tool("plain"),
    ]
    server = locked("alpha", backend.listing("alpha", tools=tools))
    assert [is_repeatable(server, "tools/call", t["name"]) for t in tools] == [True, True, False, False]
    assert is_repeatable(server, "resources/read", "note://one")
    assert not is_repeatable(server, "resources/subscribe", "note://one")
