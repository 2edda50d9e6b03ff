"""What was verified about an image, kept beside the entries that name it: facts, packages, and tools as the server told them.

Only verified evidence comes here (``registry.verify``); nothing is read from an image's papers without it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert
from sqlmodel import Session, col, select

from catalog.models import CatalogEntry, EntryVersion, EvidenceFact, Image, Source, Tool
from catalog.sources.checks import mappings
from catalog.sources.serverfile import Notes, tool_records
from catalog.store import Store, touch
from catalog.vulnerabilities.components import keep_components
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from policies.evidence import AttestationFact, Evidence
from policies.policy_set import PolicySet
from policies.trust import TrustPolicy
from registry.oci.layout import OciLayout
from registry.toolset import targets_of
from registry.verify import Verifier


def record_evidence(store: Store, evidence: Evidence) -> None:
    """Remember ``evidence`` by its image's digest, in place of what was known before."""
    with store.writing() as session:
        session.exec(delete(EvidenceFact).where(col(EvidenceFact.digest) == evidence.image))
        if facts := _facts(evidence):
            session.execute(insert(EvidenceFact), facts)
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


def verify_entries(store: Store, settings: Settings, source: str) -> dict[str, str]:
    """Verify, offline, the image of each entry of ``source`` that has one here; name -> the code of a refusal, or nothing.

    What was known of an image that is refused now is forgotten.
    """
    verifier = Verifier(
        OciLayout(settings.oci_dir), None, TrustPolicy.load(settings), PolicySet.load(settings), offline=True
    )
    outcome: dict[str, str] = {}
    for name, digest in _images_of(store, source):
        if name in outcome:
            continue  # of several images: all were verified with the first
        try:
            for target in targets_of(settings, name):
                record_evidence(store, verifier.verify(target))
            outcome[name] = ""
        except HarbourError as e:
            _forget(store, digest)
            outcome[name] = e.code
    return outcome


def _images_of(store: Store, source: str) -> list[tuple[str, str]]:
    query = (
        select(CatalogEntry.name, Image.digest)
        .join(EntryVersion, col(EntryVersion.entry_id) == col(CatalogEntry.id))
        .join(Image, col(Image.version_id) == col(EntryVersion.id))
        .join(Source, col(Source.id) == col(CatalogEntry.source_id))
        .where(Source.name == source, col(EntryVersion.is_latest), Image.digest != "")
        .order_by(CatalogEntry.name)
    )
    with store.reading() as session:
        return [(name, digest) for name, digest in session.exec(query)]


def _forget(store: Store, digest: str) -> None:
    with store.writing() as session:
        gone = session.exec(delete(EvidenceFact).where(col(EvidenceFact.digest) == digest))
        if gone.rowcount:
            touch(session)
