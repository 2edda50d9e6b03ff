"""The official suite's client scenarios, authorization included, with the gateway's upstream side as the client."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.conftest import ROOT
from tests.conformance.suite import PASSED, REVISIONS

pytestmark = [pytest.mark.npm, pytest.mark.slow, pytest.mark.timeout(600)]

AT_ONCE = 3
BRIEF_S = 120
PATIENCE_MS = 100_000  # for one scenario
SCENARIOS = {"2025-11-25": 19, "2026-07-28": 33}
# Nothing to judge: this revision has no handshake, so its messages are never sent.
SKIPPED = {"2025-11-25": Counter[str](), "2026-07-28": Counter({"http-standard-headers": 2})}


@pytest.mark.parametrize("revision", REVISIONS)
async def test_every_client_scenario_passes(suite: list[str], tmp_path: Path, revision: str) -> None:
    names, turns = await scenarios(suite, revision), asyncio.Semaphore(AT_ONCE)
    failed = await asyncio.gather(*(play(suite, name, revision, tmp_path, turns) for name in names))
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
    assert not any(failed), "\n".join(failed)
    assert skipped == SKIPPED[revision]
    assert len(found) == len(names) == SCENARIOS[revision], sorted(found)


async def scenarios(suite: list[str], revision: str) -> list[str]:
    """The client scenarios of ``revision``, as the suite lists them: ``  - auth/basic-cimd [2025-11-25,2026-07-28]``."""
    said, _ = await output_of([*suite, "list"], BRIEF_S)
    part = said.partition("Client scenarios")[2].partition("Authorization server scenarios")[0]
    return [name for name, revisions in re.findall(r"- (\S+) \[([^\]]*)\]", part) if revision in revisions.split(",")]


async def play(suite: list[str], name: str, revision: str, output: Path, turns: asyncio.Semaphore) -> str:
    """Run one scenario; what the suite said when it failed, else nothing.  It would start all at once, and swamp a small machine."""
    options = [
        "--scenario",
        name,
        "--spec-version",
        revision,
        "--timeout",
        str(PATIENCE_MS),
        "--output-dir",
        str(output),
    ]
    command = [*suite, "client", "--command", f"{sys.executable} -m tests.conformance.client", *options]
    async with turns:
        said, status = await output_of(command, BRIEF_S)
    return "" if status == 0 else f"{name}: {said[-2000:]}"


async def output_of(command: list[str], seconds: float) -> tuple[str, int | None]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), seconds)
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
