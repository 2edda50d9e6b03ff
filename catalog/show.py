"""One entry with everything that is known of it, as plain values: the command line and REST print the same."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session, col, select

from catalog.models import (
    CatalogEntry,
    EntryTag,
    EntryVersion,
    EvidenceFact,
    FindingRow,
    Image,
    Source,
    Tag,
    Tool,
)
from catalog.vulnerabilities.entries import vulnerabilities_of

FACTS = (
    "name",
    "title",
    "description",
    "kind",
    "category",
    "tier",
    "publisher",
    "licence",
    "homepage",
    "repository",
    "icon",
)
STATES = ("status", "status_message", "runnable", "read_only", "first_seen_at", "updated_at")


def entry_details(session: Session, entry: CatalogEntry) -> dict[str, Any]:
    versions = session.exec(select(EntryVersion).where(EntryVersion.entry_id == entry.id)).all()
    latest = next((v for v in versions if v.is_latest), None)
    tags = select(Tag.name).join(EntryTag, col(EntryTag.tag_id) == col(Tag.id)).where(EntryTag.entry_id == entry.id)
    return (
        {k: getattr(entry, k) for k in FACTS + STATES}
        | {"source": session.get_one(Source, entry.source_id).name, "tags": sorted(session.exec(tags))}
        | {"versions": [_version(v) for v in versions]}
        | (_latest(session, latest) if latest else {})
        | {"vulnerabilities": vulnerabilities_of(session, entry).as_dict()}
    )


def _version(version: EntryVersion) -> dict[str, Any]:
    keys = ("version", "is_latest", "status", "published_at", "updated_at", "digest")
    return {k: getattr(version, k) for k in keys}


def _latest(session: Session, version: EntryVersion) -> dict[str, Any]:
    tools = session.exec(select(Tool).where(Tool.version_id == version.id).order_by(col(Tool.position)))
    findings = session.exec(select(FindingRow).where(FindingRow.version_id == version.id).order_by(col(FindingRow.id)))
    images = session.exec(select(Image).where(Image.version_id == version.id)).all()
    return {
        "version": version.version,
        "permissions": version.permissions,
        "tools": [
            {"name": t.name, "description": t.description, "arguments": t.arguments, "annotations": t.annotations}
            for t in tools
        ],
        "findings": [
            {
                "code": f.code,
                "severity": f.severity,
                "path": f.path,
                "line": f.line,
                "message": f.message,
                "remedy": f.remedy,
            }
            for f in findings
        ],
        "images": [_image(session, i) for i in images],
        "readme": version.readme,
    }


def _image(session: Session, image: Image) -> dict[str, Any]:
    facts = session.exec(select(EvidenceFact).where(EvidenceFact.digest == image.digest)).all() if image.digest else []
    evidence = [
        {"kind": f.kind, "bundle": f.bundle, "by": f.by, "policy": f.policy, "verified_at": f.verified_at}
        for f in facts
    ]
    return {"reference": image.reference, "digest": image.digest, "evidence": evidence}
