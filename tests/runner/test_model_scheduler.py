"""The owner of engines, with engines that do nothing: what is tested is who gets one, when, and what happens after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from runner.engine.spec import EngineSpec
from runner.errors import LoadFailed, NoRoom, QueueDeadline, QueueFull
from runner.scheduler import scheduler as module
from runner.scheduler.policy import RESERVE
from runner.scheduler.scheduler import Plan, Scheduler

MIB = 1 << 20


@dataclass
class Machine:
    """Memory that engines take when they start and give back when they stop."""

    free: int = RESERVE + 100 * MIB
    started: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, spec: EngineSpec, *, on_exit: Callable[[], None]) -> Any:
        self.started.append(spec.name)
        await self.gate.wait()
        if self.failure:
            raise self.failure
        return Engine(self, spec, on_exit)


@dataclass
class Engine:
    machine: Machine
    spec: EngineSpec
    on_exit: Callable[[], None]
    alive: bool = True
    ready: dict[str, Any] = field(default_factory=dict)
    pid: int = 1

    def __post_init__(self) -> None:
        self.machine.free -= 80 * MIB

    def resident_bytes(self) -> int:
        return 80 * MIB

    async def stop(self) -> None:
        if self.alive:
            self.alive = False
            await asyncio.sleep(0)
            self.machine.free += 80 * MIB
            self.machine.stopped.set()

    def die(self) -> None:
        self.alive = False
        self.machine.free += 80 * MIB
        self.on_exit()


def plan(name: str, size: int = 80 * MIB, **more: Any) -> Plan:
    return Plan(name, name, EngineSpec(name, ()), size, **more)


@pytest.fixture
def machine() -> Machine:
    m = Machine()
    m.gate.set()
    return m


@pytest.fixture
def scheduler(machine: Machine) -> Scheduler:
    return Scheduler(lambda: machine.free, start_engine=machine.start)


async def test_requests_for_one_model_share_one_load(scheduler: Scheduler, machine: Machine) -> None:
    async def use() -> str:
        async with scheduler.use(plan("a")) as engine:
            await asyncio.sleep(0)
            return engine.spec.name

    assert await asyncio.gather(*(use() for _ in range(5))) == ["a"] * 5
    assert machine.started == ["a"]
    await scheduler.close()


async def test_an_idle_model_makes_way_and_the_reason_is_remembered(scheduler: Scheduler) -> None:
    async with scheduler.use(plan("a")):
        pass
    async with scheduler.use(plan("b")):
        assert [e["name"] for e in scheduler.status()] == ["b"]
    assert "b needs 80 MiB" in scheduler.departures[0].why
    await scheduler.close()


async def test_a_request_is_held_until_the_busy_model_is_free(scheduler: Scheduler) -> None:
    got_b = asyncio.Event()

    async def use_b() -> None:
        async with scheduler.use(plan("b")):
            got_b.set()

    async with scheduler.use(plan("a")):
        waiting = asyncio.create_task(use_b())
        await asyncio.sleep(0.01)
        assert not got_b.is_set()
        assert scheduler.waiting == 1
    await waiting
    assert got_b.is_set()
    await scheduler.close()


async def test_a_load_goes_on_when_its_first_client_goes_away(scheduler: Scheduler, machine: Machine) -> None:
    machine.gate.clear()

    async def use() -> None:
        async with scheduler.use(plan("a")):
            pass

    first = asyncio.create_task(use())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    machine.gate.set()
    await use()
    assert machine.started == ["a"]
    assert scheduler.status()[0]["active"] == 0
    await scheduler.close()


async def test_ten_agents_and_three_models_with_room_for_one_all_finish(scheduler: Scheduler) -> None:
    async def agent(number: int) -> int:
        for round_number in range(3):
            async with scheduler.use(plan(f"m{(number + round_number) % 3}"), client=str(number)):
                await asyncio.sleep(0)
        return number

    assert sorted(await asyncio.gather(*(agent(i) for i in range(10)))) == list(range(10))
    assert all(e["active"] == 0 for e in scheduler.status())
    assert scheduler.waiting == 0
    await scheduler.close()


async def test_a_model_in_constant_use_makes_way_for_one_that_waits_long(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    scheduler = Scheduler(lambda: machine.free, start_engine=machine.start, clock=lambda: now[0])
    order: list[str] = []

    async def use(name: str, hold: asyncio.Event) -> None:
        async with scheduler.use(plan(name), client=name):
            order.append(name)
            await hold.wait()

    first, second, third = asyncio.Event(), asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(use("a", first))]
    await asyncio.sleep(0.01)
    third.set()
    tasks.append(asyncio.create_task(use("b", third)))
    await asyncio.sleep(0.01)
    now[0] = 100.0  # b has waited far longer than anyone's patience
    tasks.append(asyncio.create_task(use("a", second)))
    await asyncio.sleep(0.01)
    assert order == ["a"]
    first.set()
    second.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "a"]
    await scheduler.close()


async def test_a_model_that_can_never_fit_is_refused_at_once(scheduler: Scheduler) -> None:
    with pytest.raises(NoRoom, match="needs 9000 MiB"):
        async with scheduler.use(plan("huge", 9000 * MIB)):
            pass


async def test_waiting_has_an_end_that_says_when_to_come_back(scheduler: Scheduler) -> None:
    async with scheduler.use(plan("a")):
        with pytest.raises(QueueDeadline) as refused:
            async with scheduler.use(plan("b"), wait_s=0.01):
                pass
    assert refused.value.details["retry_after_s"] > 0
    await scheduler.close()


async def test_the_queue_has_an_end(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    async with scheduler.use(plan("a")):
        waiting = asyncio.create_task(scheduler.use(plan("b")).__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            async with scheduler.use(plan("c")):
                pass
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await scheduler.close()


async def test_a_failed_load_is_told_to_all_who_wait_and_tried_again_by_the_next(
    scheduler: Scheduler, machine: Machine
) -> None:
    machine.failure = LoadFailed("the file is broken")

    async def use() -> None:
        async with scheduler.use(plan("a")):
            pass

    results = await asyncio.gather(use(), use(), return_exceptions=True)
    assert all(isinstance(r, LoadFailed) for r in results)
    machine.failure = None
    await use()
    await scheduler.close()


async def test_an_engine_that_dies_is_loaded_again_by_the_next_request(scheduler: Scheduler, machine: Machine) -> None:
    async with scheduler.use(plan("a")) as engine:
        engine.die()  # type: ignore[attr-defined]
    async with scheduler.use(plan("a")):
        pass
    assert machine.started == ["a", "a"]
    assert scheduler.departures[0].why == "its process died"
    await scheduler.close()


async def test_an_idle_model_is_unloaded_after_its_time(scheduler: Scheduler, machine: Machine) -> None:
    async with scheduler.use(plan("a", keep_alive=0.0)):
        pass
    async with asyncio.timeout(5):
        await machine.stopped.wait()
    await asyncio.sleep(0)
    assert machine.free == RESERVE + 100 * MIB
    assert "idle" in scheduler.departures[0].why


async def test_what_a_model_took_is_measured(machine: Machine) -> None:
    measured = {}
    scheduler = Scheduler(
        lambda: machine.free, start_engine=machine.start, on_measured=lambda p, size: measured.update({p.key: size})
    )
    async with scheduler.use(plan("a", 10 * MIB)):
        pass
    assert measured == {"a": 80 * MIB}
    await scheduler.close()
