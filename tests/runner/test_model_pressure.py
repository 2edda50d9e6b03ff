"""Three models, room for one, many agents: everyone is answered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from harbourmaster.core.settings import Settings
from runner.chat.job import ChatJob, Done
from runner.chat.toolcalls import chat
from runner.service import Runner
from runner.store.package import Parts, package

pytestmark = pytest.mark.slow


async def test_agents_of_three_models_with_room_for_one_all_get_answers(
    engine_installed: None, smollm2: Path, settings: Settings
) -> None:
    runner = Runner.open(settings)
    runner.scheduler.most = 1
    for size in (256, 320, 384):
        model = package(runner.store, Parts((smollm2,), context_size=size), f"me/m{size}")
        runner.configurations.change(model, {"threads": 1})

    async def agent(number: int) -> str:
        plan = runner.plan(f"me/m{(256, 320, 384)[number % 3]}")
        job = ChatJob([{"role": "user", "content": f"Count from {number}"}], {"max_tokens": 4, "temperature": 0})
        async with runner.scheduler.use(plan, client=str(number)) as engine:
            [done] = [e async for e in chat(engine, job) if isinstance(e, Done)]
        return done.reason

    try:
        reasons = await asyncio.gather(*(agent(i) for i in range(10)))
        assert set(reasons) <= {"stop", "length"}
        assert len(runner.scheduler.status()) == 1
        assert len(runner.scheduler.departures) >= 2
        assert all("evicted" in d.why for d in runner.scheduler.departures)
    finally:
        await runner.scheduler.close()
    # What each took was measured, and is what the next load will be planned with.
    assert all(runner.plan(f"me/m{size}").bytes > 90 << 20 for size in (256, 320, 384))
    assert len(runner.measurements._read()) == 3
