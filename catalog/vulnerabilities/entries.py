"""Vulnerabilities of catalog entries: what their images hold, matched now, with what people said about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from catalog.models import CatalogEntry, Component, EntryVersion, Image
from catalog.vulnerabilities.matching import Match, Package, apply_statements, match, packages_of
from catalog.vulnerabilities.statements import statements_on


@dataclass(frozen=True)
class EntryVulnerabilities:
    entry: str
    known: bool
    """Whether an SBOM says what the image holds; without one nobody knows, which is not the same as none."""
    packages: int
    matches: list[Match]

    @property
    def affecting(self) -> list[Match]:
        return [m for m in self.matches if not m.not_affected]

    def as_dict(self) -> dict[str, Any]:
        return {
            "entry": self.entry,
            "known": self.known,
            "packages": self.packages,
            "affecting": len(self.affecting),
            "matches": [m.as_dict() for m in self.matches],
        }


def vulnerabilities_of(session: Session, entry: CatalogEntry) -> EntryVulnerabilities:
    packages: dict[str, Package] = {}
    for digest in _digests(session, entry):
        packages.update((p.purl, p) for p in packages_of(session, digest))
    matches = apply_statements(match(session, packages.values()), statements_on(session, entry))
    return EntryVulnerabilities(entry.name, bool(packages), len(packages), matches)


def _digests(session: Session, entry: CatalogEntry) -> list[str]:
    query = (
        select(Image.digest)
        .join(EntryVersion, col(EntryVersion.id) == col(Image.version_id))
        .where(EntryVersion.entry_id == entry.id, col(EntryVersion.is_latest), Image.digest != "")
    )
    return list(session.exec(query))


def entries_with_sbom(session: Session) -> list[CatalogEntry]:
    """Entries whose latest version's image has known components, by name."""
    query = (
        select(CatalogEntry)
        .join(EntryVersion, col(EntryVersion.entry_id) == col(CatalogEntry.id))
        .join(Image, col(Image.version_id) == col(EntryVersion.id))
        .where(col(EntryVersion.is_latest), CatalogEntry.status != "deleted")
        .where(col(Image.digest).in_(select(Component.digest).distinct()))
        .order_by(CatalogEntry.name)
    )
    return list({e.id: e for e in session.exec(query)}.values())
