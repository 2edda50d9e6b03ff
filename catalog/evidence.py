"""What was verified about an image, kept beside the entries that name it: facts, packages, and tools as the server told them.

Only verified evidence comes here (``registry.verify``); nothing is read from an image's papers without it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert
from sqlmodel import Session, col, select

from catalog.models import CatalogEntry, EntryVersion, EvidenceFact, Image, Tool
from catalog.sources.checks import mappings
from catalog.sources.serverfile import Notes, tool_records
from catalog.store import Store, touch
from catalog.vulnerabilities.components import keep_components
from policies.evidence import AttestationFact, Evidence


def record_evidence(store: Store, evidence: Evidence) -> None:
    """Remember ``evidence`` by its image's digest, in place of what was known before."""
    with store.writing() as session:
        session.exec(delete(EvidenceFact).where(col(EvidenceFact.digest) == evidence.image))
        session.execute(insert(EvidenceFact), _facts(evidence))
        if evidence.sbom:
            keep_components(session, evidence.image, evidence.sbom.predicate)
        if evidence.listing:
            _keep_tools(session, evidence.image, evidence.listing.predicate)
        touch(session)


def _facts(evidence: Evidence) -> list[dict[str, Any]]:
    policies = ", ".join(dict.fromkeys(link.by for link in evidence.links if link.by))
    when = evidence.verified_at.strftime("%Y-%m-%dT%H:%M:%SZ") if evidence.verified_at else ""
    common = {"digest": evidence.image, "policy": policies, "verified_at": when}
    facts = []
    if evidence.signature:
        facts.append({**common, "kind": "signature", "bundle": "", "by": evidence.signature.signer})
    for kind in ("sbom", "provenance", "listing"):
        paper: AttestationFact | None = getattr(evidence, kind)
        if paper:
            facts.append({**common, "kind": kind, "bundle": paper.digest, "by": paper.signature.signer})
    return facts


def _keep_tools(session: Session, digest: str, listing: dict[str, Any]) -> None:
    """The tools in the verified listing take the place of what the document said."""
    records = tool_records(mappings(listing.get("tools")), Notes())
    for version_id in session.exec(select(Image.version_id).where(Image.digest == digest)).all():
        session.exec(delete(Tool).where(col(Tool.version_id) == version_id))
        rows = [
            {
                "version_id": version_id,
                "position": n,
                "name": t.name,
                "description": t.description,
                "arguments": list(t.arguments),
                "annotations": t.annotations,
            }
            for n, t in enumerate(records)
        ]
        if rows:
            session.execute(insert(Tool), rows)
        _mark_read_only(
            session, version_id, bool(records) and all(t.annotations.get("readOnlyHint") is True for t in records)
        )


def _mark_read_only(session: Session, version_id: int, read_only: bool) -> None:
    version = session.get_one(EntryVersion, version_id)
    if version.is_latest:
        session.get_one(CatalogEntry, version.entry_id).read_only = read_only
