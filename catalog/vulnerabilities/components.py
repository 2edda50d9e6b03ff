"""The packages of a CycloneDX SBOM, in the names that advisories use."""

from __future__ import annotations

from typing import Any

from packageurl import PackageURL
from sqlalchemy import delete, insert
from sqlmodel import Session, col

from catalog.models import Component
from catalog.sources.checks import at, mappings
from catalog.store import touch
from catalog.text import one_line
from catalog.vulnerabilities.packages import of_purl

MAX_COMPONENTS = 100_000


def component_rows(digest: str, sbom: Any) -> list[dict[str, Any]]:
    """One row for each component with a purl; others cannot be matched to anything."""
    rows: dict[str, dict[str, Any]] = {}
    for component in mappings(at(sbom, "components", []))[:MAX_COMPONENTS]:
        text = str(component.get("purl", ""))[:1024]
        try:
            purl = PackageURL.from_string(text)
        except ValueError:
            continue
        rows[text] = _row(digest, text, purl, component)
    return list(rows.values())


def _row(digest: str, text: str, purl: PackageURL, component: dict[str, Any]) -> dict[str, Any]:
    key = of_purl(purl)
    properties = {
        str(p.get("name", "")).rpartition(":")[2]: str(p.get("value", ""))
        for p in mappings(component.get("properties"))
    }
    return {
        "digest": digest,
        "purl": text,
        "purl_type": key.purl_type,
        "namespace": key.namespace,
        # Distributions' advisories are about source packages.
        "name": (properties.get("deb.source") or key.name)[:255],
        "version": (properties.get("deb.source.version") or str(purl.version or ""))[:255],
        "release": key.release,
        "licence": one_line(_licence(component), 300),
    }


def _licence(component: dict[str, Any]) -> str:
    found = mappings(component.get("licenses"))
    words = [at(entry, "expression") or at(entry, "license.id") or at(entry, "license.name") for entry in found]
    return " AND ".join(str(w) for w in words if w)


def keep_components(session: Session, digest: str, sbom: Any) -> int:
    """Remember what the image ``digest`` holds; returns how many packages."""
    rows = component_rows(digest, sbom)
    session.exec(delete(Component).where(col(Component.digest) == digest))
    if rows:
        session.execute(insert(Component), rows)
    touch(session, advisories=True)
    return len(rows)
