"""Which known vulnerabilities affect what an image holds, by the advisories as they are now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import tuple_
from sqlmodel import Session, col, select

from catalog.models import Advisory, AffectedPackage, Component, VexStatement
from catalog.vulnerabilities.osv import RATINGS
from catalog.vulnerabilities.ranges import Undecided, is_affected

CHUNK = 200


@dataclass(frozen=True, slots=True)
class Package:
    """A component as matching sees it."""

    purl: str
    purl_type: str
    namespace: str
    name: str
    version: str
    release: str = ""


@dataclass(slots=True)
class Match:
    """One vulnerability in one package.  ``ids`` are all names of it, the advisory's own first."""

    package: Package
    ids: tuple[str, ...]
    summary: str
    severity: str
    score: float | None
    vector: str
    fixed_in: tuple[str, ...]
    decided: bool = True
    """False where the version could not be compared: it counts as affected until somebody says otherwise."""
    not_affected: str = ""
    """The justification of a statement that it does not matter here."""
    stated_by: str = ""
    """Who said so: a person by name, or the entry."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "purl": self.package.purl,
            "package": self.package.name,
            "version": self.package.version,
            "ids": list(self.ids),
            "summary": self.summary,
            "severity": self.severity,
            "score": self.score,
            "vector": self.vector,
            "fixed_in": list(self.fixed_in),
            "decided": self.decided,
            "not_affected": self.not_affected,
            "stated_by": self.stated_by,
        }


def packages_of(session: Session, digest: str) -> list[Package]:
    rows = session.exec(select(Component).where(Component.digest == digest).order_by(Component.purl))
    return [Package(c.purl, c.purl_type, c.namespace, c.name, c.version, c.release) for c in rows]


def match(session: Session, packages: Iterable[Package]) -> list[Match]:
    """The worst first.  One vulnerability under several names in one package is one match."""
    by_key: dict[tuple[str, str, str], list[Package]] = {}
    for package in packages:
        by_key.setdefault((package.purl_type, package.namespace, package.name), []).append(package)
    keys, found = sorted(by_key), []
    for start in range(0, len(keys), CHUNK):
        for affected, advisory in _candidates(session, keys[start : start + CHUNK]):
            for package in by_key[affected.purl_type, affected.namespace, affected.name]:
                if (hit := _check(package, affected, advisory)) is not None:
                    found.append(hit)
    return sorted(_merged(found), key=_badness)


def _candidates(session: Session, keys: list[tuple[str, str, str]]) -> Iterable[tuple[AffectedPackage, Advisory]]:
    columns = tuple_(col(AffectedPackage.purl_type), col(AffectedPackage.namespace), col(AffectedPackage.name))
    query = (
        select(AffectedPackage, Advisory)
        .join(Advisory, col(Advisory.id) == col(AffectedPackage.advisory_id))
        .where(columns.in_(keys), Advisory.withdrawn == "")
        .order_by(Advisory.id, col(AffectedPackage.id))
    )
    return session.exec(query).all()


def _check(package: Package, affected: AffectedPackage, advisory: Advisory) -> Match | None:
    if affected.release and package.release and affected.release != package.release:
        return None
    decided = True
    try:
        if not is_affected(package.purl_type, package.version, affected.ranges, affected.versions):
            return None
    except Undecided:
        decided = False
    fixed = tuple(dict.fromkeys(e["fixed"] for r in affected.ranges for e in r.get("events", []) if "fixed" in e))
    ids = (advisory.id, *(a for a in advisory.aliases if a != advisory.id))
    return Match(package, ids, advisory.summary, advisory.severity, advisory.score, advisory.vector, fixed, decided)


def _merged(matches: list[Match]) -> list[Match]:
    """PYSEC-, GHSA- and CVE- records of one vulnerability become one; the one that knows its severity speaks."""
    kept: list[Match] = []
    for hit in matches:
        twin = next((k for k in kept if k.package == hit.package and set(k.ids) & set(hit.ids)), None)
        if twin is None:
            kept.append(hit)
            continue
        if twin.score is None and (hit.score is not None or twin.severity == "unknown"):
            twin.severity, twin.score, twin.vector = hit.severity, hit.score, hit.vector
        twin.ids = tuple(dict.fromkeys(twin.ids + hit.ids))
        twin.fixed_in = tuple(dict.fromkeys(twin.fixed_in + hit.fixed_in))
        twin.decided = twin.decided or hit.decided
    return kept


def _badness(hit: Match) -> tuple[int, float, str, str]:
    """An unknown severity ranks with the high ones: nobody said that it is harmless."""
    rank = RATINGS.index(hit.severity) if hit.severity in RATINGS else RATINGS.index("high")
    return -rank, -(hit.score or 0.0), hit.ids[0], hit.package.purl


def apply_statements(matches: list[Match], statements: Iterable[VexStatement]) -> list[Match]:
    """``matches`` with the justification of each statement that names one of a match's identifiers."""
    said = {s.vulnerability: s for s in statements}
    for hit in matches:
        found = next((said[i] for i in hit.ids if i in said), None)
        hit.not_affected, hit.stated_by = (found.justification, found.author) if found else ("", "")
    return matches
