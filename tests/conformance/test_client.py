"""The official suite's client scenarios, authorization included, with the gateway's upstream side as the client."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.conftest import ROOT
from tests.conformance.suite import PASSED, REVISIONS

pytestmark = [pytest.mark.npm, pytest.mark.slow, pytest.mark.timeout(600)]

SUITE_S = 540
PATIENCE_MS = 180_000  # for one scenario: the suite starts them all at once
SCENARIOS = {"2025-11-25": 19, "2026-07-28": 33}
# Nothing to judge: this revision has no handshake, so its messages are never sent.
SKIPPED = {"2025-11-25": Counter[str](), "2026-07-28": Counter({"http-standard-headers": 2})}


@pytest.mark.parametrize("revision", REVISIONS)
async def test_every_client_scenario_passes(suite: list[str], tmp_path: Path, revision: str) -> None:
    said, status = await run(suite, revision, tmp_path)
    found = read(tmp_path)
    judged = Counter(check["status"] for checks in found.values() for check in checks)
    print(f"\n{revision}, client: {judged[PASSED]} checks passed in {len(found)} scenarios")
    bad = [
        f"{name}: {check['id']} {check['status']}: {check.get('errorMessage')}"
        for name, checks in found.items()
        for check in checks
        if check["status"] in ("FAILURE", "WARNING")
    ]
    skipped = Counter(n for n, checks in found.items() for check in checks if check["status"] == "SKIPPED")
    assert not bad, "\n".join(bad)
    assert status == 0, said[-3000:]
    assert skipped == SKIPPED[revision]
    assert len(found) == SCENARIOS[revision], sorted(found)


async def run(suite: list[str], revision: str, output: Path) -> tuple[str, int | None]:
    """What the suite said, and its exit status."""
    options = ["--suite", "all", "--spec-version", revision, "--timeout", str(PATIENCE_MS), "--output-dir", str(output)]
    process = await asyncio.create_subprocess_exec(
        *suite,
        "client",
        "--command",
        f"{sys.executable} -m tests.conformance.client",
        *options,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), SUITE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said.decode(), process.returncode


def read(output: Path) -> dict[str, list[dict[str, str]]]:
    """Scenario -> its checks."""
    found = {}
    for path in sorted(output.rglob("checks.json")):
        name = path.parent.relative_to(output).as_posix()[: -len("-2026-01-01T00-00-00-000Z")]
        found[name] = json.loads(path.read_bytes())
    return found
