"""The judge must see what is worse, and name it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conformance.suite import Findings, read


def findings(place: Path, **scenarios: list[tuple[str, str]]) -> Findings:
    for scenario, checks in scenarios.items():
        folder = place / f"server-{scenario}-2026-11-21T12-00-00-000Z"
        folder.mkdir(parents=True)
        body: list[dict[str, Any]] = [{"id": c, "status": s, "errorMessage": f"{c} is {s}"} for c, s in checks]
        (folder / "checks.json").write_text(json.dumps(body))
    return read(place)


def test_a_scenario_that_fails_warns_skips_or_does_not_run_is_worse_and_its_checks_are_named(tmp_path: Path) -> None:
    names = ("fails", "warns", "skips", "missing", "silent", "same")
    alone = findings(tmp_path / "alone", **{name: [("a", "SUCCESS")] for name in names})
    behind = findings(
        tmp_path / "behind",
        fails=[("a", "SUCCESS"), ("b", "FAILURE")],
        warns=[("a", "WARNING")],
        skips=[("a", "SKIPPED")],
        silent=[("a", "INFO")],
        same=[("a", "SUCCESS"), ("a", "INFO")],
    )
    assert behind.worse_than(alone) == [
        "fails: b: b is FAILURE",
        "missing: (no checks): the scenario did not run",
        "silent: (no checks): the scenario did not run",
        "skips: a: a is SKIPPED",
        "warns: a: a is WARNING",
    ]


def test_what_fails_directly_too_is_not_held_against_the_gateway(tmp_path: Path) -> None:
    alone = findings(tmp_path / "alone", one=[("a", "FAILURE")], two=[("a", "SUCCESS")])
    behind = findings(tmp_path / "behind", one=[("a", "FAILURE")], two=[("a", "SUCCESS")])
    assert behind.worse_than(alone) == []
    assert str(behind) == "1 of 2 checks, 1 of 2 scenarios"
