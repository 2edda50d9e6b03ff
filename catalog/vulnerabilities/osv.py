"""One OSV record -> what matching needs.  Pure.  Source: ossf.github.io/osv-schema, version 1.7."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cvss

from catalog.errors import AdvisoryUnreadable
from catalog.sources.checks import at, mappings, strings
from catalog.text import one_line
from catalog.vulnerabilities.packages import PackageKey, of_ecosystem

MAX_VERSIONS = 20_000
MAX_AFFECTED = 5_000
RATINGS = ("none", "low", "medium", "high", "critical")
_VECTORS = {"CVSS_V4": cvss.CVSS4, "CVSS_V3": cvss.CVSS3, "CVSS_V2": cvss.CVSS2}


@dataclass(frozen=True, slots=True)
class Severity:
    rating: str = "unknown"
    score: float | None = None
    vector: str = ""


@dataclass(frozen=True, slots=True)
class Affected:
    key: PackageKey
    ranges: tuple[dict[str, Any], ...]
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    id: str
    modified: str
    published: str
    withdrawn: str
    summary: str
    aliases: tuple[str, ...]
    severity: Severity
    affected: tuple[Affected, ...]


def read_record(value: Any) -> Record:
    """Raises ``AdvisoryUnreadable`` when it is no OSV record."""
    identifier = at(value, "id")
    if (
        not isinstance(identifier, str)
        or not 3 <= len(identifier) <= 128
        or not identifier.isascii()
        or " " in identifier
    ):
        raise AdvisoryUnreadable("it has no OSV identifier", remedy="give OSV records (ossf.github.io/osv-schema)")
    if not isinstance(at(value, "modified"), str):
        raise AdvisoryUnreadable(f"{identifier} has no date of modification", remedy="give OSV records")
    summary = at(value, "summary") or str(at(value, "details", "")).partition("\n")[0]
    affected = [a for item in mappings(at(value, "affected", []))[:MAX_AFFECTED] if (a := _affected(item))]
    return Record(
        id=identifier,
        modified=one_line(at(value, "modified"), 40),
        published=one_line(at(value, "published"), 40),
        withdrawn=one_line(at(value, "withdrawn"), 40),
        summary=one_line(summary, 400),
        aliases=tuple(one_line(a, 128) for a in strings(at(value, "aliases", []))[:100]),
        severity=severity_of(value),
        affected=tuple(affected),
    )


def _affected(item: dict[str, Any]) -> Affected | None:
    name, ecosystem = at(item, "package.name"), at(item, "package.ecosystem")
    if not isinstance(name, str) or not isinstance(ecosystem, str):
        return None
    key = of_ecosystem(ecosystem, name)
    if key is None:
        return None
    ranges = tuple(
        {"type": r["type"], "events": [{k: str(v) for k, v in e.items()} for e in mappings(r.get("events"))]}
        for r in mappings(item.get("ranges"))
        if r.get("type") in ("ECOSYSTEM", "SEMVER")
    )
    return Affected(key, ranges, tuple(strings(item.get("versions"))[:MAX_VERSIONS]))


def severity_of(value: Any) -> Severity:
    """The newest CVSS version's score where there is a vector; else the database's own word."""
    vectors = mappings(at(value, "severity", []))
    vectors += [s for item in mappings(at(value, "affected", []))[:10] for s in mappings(item.get("severity"))]
    for kind, reader in _VECTORS.items():
        for item in vectors:
            if item.get("type") == kind and (found := _scored(reader, str(item.get("score", "")))):
                return found
    word = str(at(value, "database_specific.severity", "")).lower()
    word = {"moderate": "medium", "important": "high"}.get(word, word)
    return Severity(word) if word in RATINGS else Severity()


def _scored(reader: Any, vector: str) -> Severity | None:
    try:
        score = float(reader(vector).base_score)
    except (cvss.CVSSError, ArithmeticError, ValueError, TypeError):
        return None
    return Severity(rating(score), score, vector)


def rating(score: float) -> str:
    """CVSS v3.1 and v4.0 qualitative severity rating scale (first.org, section 5)."""
    for least, word in ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (0.1, "low")):
        if score >= least:
            return word
    return "none"
