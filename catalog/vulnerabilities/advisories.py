"""Advisories into the tables: idempotent by digest, a newer record replaces an older, the unreadable ones are named."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert
from sqlmodel import Session, col, select

from catalog.errors import AdvisoryUnreadable, EntryUnreadable
from catalog.models import Advisory, AffectedPackage
from catalog.sources.documents import parse_json, parse_yaml
from catalog.store import Store, touch
from catalog.vulnerabilities.archive import read_records
from catalog.vulnerabilities.osv import Record, read_record
from harbourmaster.core.digests import sha256

BATCH = 500
READER = "1\0"


@dataclass
class AdvisoryReport:
    origin: str
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    older: int = 0
    """Records that the catalog already has in a newer state."""
    unread: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def import_advisories(store: Store, place: Path) -> AdvisoryReport:
    report = AdvisoryReport(place.name)
    stream = iter(read_records(place))
    while batch := list(itertools.islice(stream, BATCH)):
        records = [r for name, data in batch if (r := _read(name, data, report))]
        with store.writing() as session:
            if _write(session, records, report):
                touch(session, advisories=True)
    return report


def _read(name: str, data: bytes | str, report: AdvisoryReport) -> tuple[Record, str] | None:
    if isinstance(data, str):
        report.unread[name] = data
        return None
    try:
        value = parse_json(data) if name.endswith(".json") else parse_yaml(data, lines=False).value
        return read_record(value), sha256(READER.encode() + data)
    except (AdvisoryUnreadable, EntryUnreadable) as e:
        report.unread[name] = e.message
        return None


def _write(session: Session, records: list[tuple[Record, str]], report: AdvisoryReport) -> bool:
    latest: dict[str, tuple[Record, str]] = {}
    for record, digest in records:
        if record.id not in latest or latest[record.id][0].modified <= record.modified:
            latest[record.id] = (record, digest)
    known = {a.id: a for a in session.exec(select(Advisory).where(col(Advisory.id).in_(latest)))}
    fresh = [(r, d) for r, d in latest.values() if _outcome(known.get(r.id), r, d, report)]
    ids = [r.id for r, _ in fresh]
    session.exec(delete(AffectedPackage).where(col(AffectedPackage.advisory_id).in_(ids)))
    session.exec(delete(Advisory).where(col(Advisory.id).in_(ids)))
    if fresh:
        session.execute(insert(Advisory), [_row(r, d, report.origin) for r, d in fresh])
    if affected := [row for r, _ in fresh for row in _affected_rows(r)]:
        session.execute(insert(AffectedPackage), affected)
    return bool(fresh)


def _outcome(known: Advisory | None, record: Record, digest: str, report: AdvisoryReport) -> bool:
    if known is None:
        report.added += 1
    elif known.digest == digest:
        report.unchanged += 1
        return False
    elif known.modified > record.modified:
        report.older += 1
        return False
    else:
        report.changed += 1
    return True


def _row(record: Record, digest: str, origin: str) -> dict[str, Any]:
    return {
        "id": record.id,
        "modified": record.modified,
        "published": record.published,
        "withdrawn": record.withdrawn,
        "summary": record.summary,
        "aliases": list(record.aliases),
        "severity": record.severity.rating,
        "score": record.severity.score,
        "vector": record.severity.vector,
        "digest": digest,
        "origin": origin,
    }


def _affected_rows(record: Record) -> list[dict[str, Any]]:
    return [
        {
            "advisory_id": record.id,
            "purl_type": a.key.purl_type,
            "namespace": a.key.namespace,
            "name": a.key.name,
            "release": a.key.release,
            "ranges": list(a.ranges),
            "versions": list(a.versions),
        }
        for a in record.affected
    ]
