"""What known vulnerabilities mean for a submission: a verdict, and a line for each.  Pure; the advisories are the catalog's.

It fails where a newer package would help and nobody said why not: severity high, critical, or unknown (nobody said that it
is harmless).  What has no fix yet, and what is milder, is for a person to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from registry.report import Verdict
from registry.vex import JUSTIFICATIONS, NotAffected

GRAVE = ("critical", "high", "unknown")
NOBODY_KNOWS = "no advisories are here to compare with: hm catalog vulnerabilities import"


@dataclass(frozen=True)
class Known:
    """One vulnerability in one package.  ``ids``: all its names; ``severity``: a word, with the score where there is one."""

    ids: tuple[str, ...]
    severity: str
    score: float | None
    package: str
    version: str
    fixed_in: tuple[str, ...]

    @property
    def words(self) -> str:
        grade = self.severity if self.score is None else f"{self.severity} {self.score:g}"
        fix = f"fixed in {', '.join(self.fixed_in[:5])}" if self.fixed_in else "no fix yet"
        return f"{self.ids[0]} ({grade}) in {self.package} {self.version}, {fix}"


@dataclass(frozen=True)
class Examined:
    """``advisories``: how many there were to compare with; ``packages``: how many the SBOM lists."""

    advisories: int
    packages: int
    known: tuple[Known, ...]


Examine = Callable[[dict[str, Any]], Examined]
"""A CycloneDX document -> what is known of its packages.  Blocking."""


def judged(found: Examined, said: Sequence[NotAffected]) -> tuple[list[Verdict], list[str]]:
    """The verdicts, and the lines of the section that tells them all."""
    if not found.advisories:
        return [Verdict("vulnerabilities", "skip", NOBODY_KNOWS)], []
    reasons = {each.vulnerability: each for each in said}
    open_, answered, used = list[Known](), list[str](), set[str]()
    for each in found.known:
        reason = next((reasons[name] for name in each.ids if name in reasons), None)
        if reason is None:
            open_.append(each)
            continue
        used.add(reason.vulnerability)
        answered.append(f"not affected: {each.words}, because {JUSTIFICATIONS[reason.because]}: {reason.statement}")
    verdicts = [_verdict(found, open_, len(answered)), *_unused(reasons, used)]
    return verdicts, [*(f"affected: {each.words}" for each in open_), *answered]


def _verdict(found: Examined, affecting: Sequence[Known], answered: int) -> Verdict:
    if not affecting:
        more = f"; {answered} known and not affected, because" if answered else ""
        detail = f"{found.packages} packages, none in an advisory that affects it ({found.advisories} loaded){more}"
        return Verdict("vulnerabilities", "pass", detail)
    grave = [each for each in affecting if each.severity in GRAVE and each.fixed_in]
    if grave:
        remedy = "update it, or say in not_affected why it does not matter here"
        return Verdict("vulnerabilities", "fail", f"{_few(grave)} ({remedy})")
    return Verdict("vulnerabilities", "warn", _few(affecting))


def _few(some: Sequence[Known]) -> str:
    more = f"; and {len(some) - 3} more" if len(some) > 3 else ""
    return "; ".join(each.words for each in some[:3]) + more


def _unused(reasons: Iterable[str], used: set[str]) -> list[Verdict]:
    return [
        Verdict("vulnerabilities", "warn", f"not_affected names {name}, which is not known in it: remove that line")
        for name in reasons
        if name not in used
    ]
