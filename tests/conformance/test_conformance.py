"""The official conformance suite against the gateway: what the server passes directly, it passes through the gateway.

The server behind the gateway is the same, but is spoken to in the client's era or in the other.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.conftest import Harbour, direct
from tests.conformance.suite import REVISIONS, Findings, run

pytestmark = [pytest.mark.engine, pytest.mark.npm, pytest.mark.slow, pytest.mark.timeout(900)]

# What no gateway can give a modern client of a handshake server: such a server asks by requests of its own, which have no
# keys and come when they come, and it hears of the client's capabilities once.
ACROSS_ERAS = {
    "input-required-result-basic-elicitation": "the key of a question is the server's to choose, and its wire has none",
    "input-required-result-ignore-extra-params": "an answer cannot come before the question on the server's wire",
    "input-required-result-capability-check": "capabilities cannot change from one request to the next",
}
NOTHING: dict[str, str] = {}
LOSSES = {("2026-07-28", "handshake"): ACROSS_ERAS}

_DIRECT: dict[str, Findings] = {}


async def passed_directly(suite: list[str], revision: str, output: Path) -> Findings:
    """The baseline, measured once per revision."""
    if revision not in _DIRECT:
        async with direct() as url:
            _DIRECT[revision] = await run(suite, url, revision, output)
    return _DIRECT[revision]


@pytest.mark.parametrize("era", ["handshake", "modern"])
@pytest.mark.parametrize("revision", REVISIONS)
async def test_what_passes_directly_passes_through_the_gateway(
    suite: list[str], harbour: Harbour, tmp_path: Path, revision: str, era: str
) -> None:
    alone = await passed_directly(suite, revision, tmp_path / "direct")
    async with harbour.through(era) as url:
        behind = await run(suite, url, revision, tmp_path / "through")
    print(f"\n{revision}, {era} server: direct {alone}; through {behind}")
    expected = LOSSES.get((revision, era), NOTHING)
    worse = behind.worse_than(alone)
    surprises = [line for line in worse if line.partition(":")[0] not in expected]
    assert not surprises, "through the gateway these fail:\n" + "\n".join(surprises)
    assert {line.partition(":")[0] for line in worse} == set(expected), "a documented loss is none any more"
