"""The official conformance suite against the gateway: what the server passes directly, it passes through the gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.conftest import Harbour, direct
from tests.conformance.suite import REVISIONS, run

pytestmark = [pytest.mark.engine, pytest.mark.npm, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("revision", REVISIONS)
async def test_what_passes_directly_passes_through_the_gateway(
    suite: list[str], harbour: Harbour, tmp_path: Path, revision: str
) -> None:
    era = "modern" if revision == "2026-07-28" else "handshake"
    async with direct() as url:
        alone = await run(suite, url, revision, tmp_path / "direct")
    async with harbour.through(era) as url:
        behind = await run(suite, url, revision, tmp_path / "through")
    print(revision, "direct", dict(alone.counts), "through", dict(behind.counts))
    worse = behind.worse_than(alone)
    assert not worse, "through the gateway these fail:\n" + "\n".join(worse)
