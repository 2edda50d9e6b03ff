"""The official suite's scenarios for the tasks extension (SEP-2663), which belongs to no revision: as without the gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from harbourmaster.core.settings import Settings
from tests.conformance.conftest import Harbour, direct
from tests.conformance.suite import run_each
from tests.conformance.test_http_backend import through

pytestmark = [pytest.mark.npm, pytest.mark.slow, pytest.mark.timeout(600)]

TASKS = (
    "tasks-lifecycle",
    "tasks-capability-negotiation",
    "tasks-wire-fields",
    "tasks-request-state-removal",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-dispatch-and-envelope",
    "tasks-required-task-error",
    "tasks-mrtr-composition",
)


async def test_tasks_pass_through_to_a_remote_server_as_they_pass_directly(
    suite: list[str], settings: Settings, tmp_path: Path
) -> None:
    async with direct() as url:
        alone = await run_each(suite, url, TASKS, tmp_path / "direct")
    async with through(settings, "modern") as url:
        behind = await run_each(suite, url, TASKS, tmp_path / "through")
    print(f"\ntasks: direct {alone} {alone.shortfalls()}; through, over HTTP {behind} {behind.shortfalls()}")
    assert len(alone.checks) == len(TASKS)
    assert behind.worse_than(alone) == []


@pytest.mark.engine
async def test_tasks_pass_through_to_a_sandbox_as_they_pass_directly(
    suite: list[str], harbour: Harbour, tmp_path: Path
) -> None:
    async with direct() as url:
        alone = await run_each(suite, url, TASKS, tmp_path / "direct")
    async with harbour.through("modern") as url:
        behind = await run_each(suite, url, TASKS, tmp_path / "through")
    print(f"\ntasks: direct {alone} {alone.shortfalls()}; through, on stdio {behind} {behind.shortfalls()}")
    assert behind.worse_than(alone) == []
