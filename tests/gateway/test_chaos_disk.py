"""The disk under the audit is really full: no call goes unrecorded, and none is on record twice.

The file systems are the tests' own, small, and in a mount name space of their own (tests/fixtures/disks.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from harbourmaster.core.audit import tail, verify
from harbourmaster.core.audit_process import AuditProcess
from harbourmaster.core.settings import Settings
from tests.fixtures.disks import fill, small_disk
from tests.gateway.chaos import inner_world
from tests.gateway.chaos_clients import Client, Load, crowd
from tests.gateway.harness import serving

ROOM = 16 << 20  # bytes: more than the calls of this test fill by themselves
CLIENTS = 12  # of both eras


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with small_disk(request.param, tmp_path, ROOM) as disk:
        yield disk


async def test_on_a_disk_that_is_full_no_call_runs_unrecorded_and_with_room_they_go_on(
    settings: Settings, disk: Path
) -> None:
    world = inner_world("one", "two")
    audit = AuditProcess(disk / "audit")
    world.append = audit.append  # type: ignore[method-assign]
    async with (
        serving(settings, world) as (_, http),
        crowd(http, ["one", "two"] * (CLIENTS // 2)) as clients,
        Load(clients, calling) as load,
    ):
        await load.until(lambda: load.good == load.everybody, "an answer for everybody")
        filler = await asyncio.to_thread(fill, disk)
        await load.until(lambda: load.bad == load.everybody, "a refusal for everybody")
        load.good.clear()
        load.bad.clear()
        made = world.calls_made
        await load.until(lambda: load.bad == load.everybody, "a refusal for everybody again")
        assert world.calls_made == made, "a call was made that could not be recorded"
        assert not load.good
        filler.unlink()
        await load.until(lambda: load.good == load.everybody, "an answer for everybody again")
    await asyncio.to_thread(audit.close)
    assert set(load.codes) == {"ok", "audit.unavailable"}
    recorded = [r for r in tail(disk / "audit", 100_000) if r["kind"] == "call" and r["outcome"] == "ok"]
    assert len(recorded) == load.codes["ok"], "what was answered is on record, and once"
    verify(disk / "audit")


async def calling(one: Client, load: Load) -> None:
    count = 0
    while not load.over.is_set():
        ending = await one.call("counter")
        if not ending.code:
            assert int(ending.text) > count, "another's state, or a loss that was not told"
            count = int(ending.text)
        load.note(one, ending)
        await asyncio.sleep(0.02)
