"""Running the official suite, and reading what it found."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

REVISIONS = ("2025-11-25", "2026-07-28")
SUITE_S = 240
PASSED = "SUCCESS"
BAD = ("FAILURE", "WARNING", "SKIPPED")


@dataclass
class Findings:
    """The checks of one run: scenario -> check -> its statuses, in order (some checks run several times)."""

    checks: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def counts(self) -> Counter[str]:
        return Counter(s for checks in self.checks.values() for statuses in checks.values() for s in statuses)

    def __str__(self) -> str:
        """``82 of 82 checks, 33 of 33 scenarios``, without what is for information only."""
        judged = sum(self.counts[status] for status in (PASSED, *BAD))
        passed = sum(self.passes(scenario) for scenario in self.checks)
        return f"{self.counts[PASSED]} of {judged} checks, {passed} of {len(self.checks)} scenarios"

    def passes(self, scenario: str) -> bool:
        statuses = [s for found in self.checks.get(scenario, {}).values() for s in found]
        return PASSED in statuses and not set(BAD) & set(statuses)

    def shortfalls(self) -> dict[tuple[str, str], str]:
        """(scenario, check) -> why, for all that failed, warned or was skipped."""
        found = [(s, c) for s, checks in self.checks.items() for c, all_ in checks.items() if set(all_) & set(BAD)]
        return {key: self.reasons.get(key, "") for key in sorted(found)}

    def worse_than(self, direct: Findings) -> list[str]:
        """What ``direct`` passes and this does not, one line each: scenario, check, reason."""
        return [
            line
            for scenario in sorted(direct.checks)
            if direct.passes(scenario) and not self.passes(scenario)
            for line in self._blame(scenario)
        ]

    def _blame(self, scenario: str) -> Iterator[str]:
        blamed = [(c, why) for (s, c), why in self.shortfalls().items() if s == scenario]
        for check, why in blamed or [("(no checks)", "the scenario did not run")]:
            yield f"{scenario}: {check}: {why}"


async def run(command: list[str], url: str, revision: str, output: Path) -> Findings:
    """All server scenarios of ``revision`` against ``url``.  A scenario that fails is a finding, not an error."""
    arguments = ["server", "--url", url, "--suite", "all", "--spec-version", revision, "--output-dir", str(output)]
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), SUITE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode in (0, 1), said.decode()[-2000:]
    findings = read(output)
    assert findings.checks, said.decode()[-2000:]
    return findings


async def run_each(command: list[str], url: str, scenarios: tuple[str, ...], output: Path) -> Findings:
    """These scenarios alone, which belong to no revision, side by side."""

    async def one(scenario: str) -> None:
        arguments = ["server", "--url", url, "--scenario", scenario, "--output-dir", str(output)]
        process = await asyncio.create_subprocess_exec(
            *command, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        await asyncio.wait_for(process.wait(), SUITE_S)

    await asyncio.gather(*(one(scenario) for scenario in scenarios))
    return read(output)


def read(output: Path) -> Findings:
    findings = Findings()
    for path in sorted(output.glob("server-*/checks.json")):
        scenario = path.parent.name.removeprefix("server-")[: -len("-2026-01-01T00-00-00-000Z")]
        checks = findings.checks.setdefault(scenario, {})
        for check in json.loads(path.read_bytes()):
            checks.setdefault(check["id"], []).append(check["status"])
            if check["status"] in BAD:
                findings.reasons[scenario, check["id"]] = check.get("errorMessage") or ""
    return findings
