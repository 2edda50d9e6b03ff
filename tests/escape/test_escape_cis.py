"""The CIS Docker Benchmark's section 5 on a running sandbox, and the table of it in docs/security.md."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.engine import Engine
from tests.escape.captive import captured
from tests.escape.checks import CHECKS, NOT_OURS, Check, Inspected

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
SECTION = {f"5.{number}" for number in range(1, 33)}  # v1.6.0 has 5.1 to 5.32


@pytest.fixture
async def box(engine: Engine, hostile_image: str, docker_words: None) -> AsyncIterator[Inspected]:
    async with captured(engine, hostile_image, limits={}) as captive:
        assert captive.box is not None
        yield engine.api.inspect_container(captive.box.id)


@pytest.mark.engine
async def test_a_running_sandbox_passes_every_check(box: Inspected) -> None:
    assert box["State"]["Running"]
    assert {check.name: found for check in CHECKS if (found := check.find(box))} == {}


def test_every_recommendation_of_the_section_is_checked_or_does_not_apply() -> None:
    assert {cis for check in CHECKS for cis in check.cis if cis.startswith("5.")} | set(NOT_OURS) == SECTION


@pytest.mark.parametrize("check", [c for c in CHECKS if c.cis], ids=lambda check: check.name)
def test_the_page_lists_the_check(check: Check) -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and f"`{check.name}`" in line]
    assert len(rows) == 1
    assert set(re.findall(r"\b[45]\.\d+\b", rows[0].split("|")[1])) == set(check.cis)


@pytest.mark.parametrize("cis", NOT_OURS)
def test_the_page_says_why_a_recommendation_does_not_apply(cis: str) -> None:
    assert any(line.startswith(f"| {cis} |") and NOT_OURS[cis] in line for line in PAGE.read_text().splitlines())
