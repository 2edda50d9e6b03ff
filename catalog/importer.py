"""Writes what a reader yields into the tables.

Idempotent: the same bytes again change nothing and raise no revision.  Resumable: every batch is one transaction, and
what it wrote is recognised by digest when a broken run starts over.  Nothing is dropped silently: what could not be read is in the
report and in the table of unread things.
"""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, insert, update
from sqlmodel import Session, col, select

from catalog.models import (
    CatalogEntry,
    EntryTag,
    EntryVersion,
    FindingRow,
    Image,
    Source,
    Tag,
    Tool,
    Unread,
)
from catalog.records import EntryRecord, UnreadRecord
from catalog.store import Store, touch

BATCH = 200
MAX_UNREAD_KEPT = 1000

Offer = EntryRecord | UnreadRecord


@dataclass
class ImportReport:
    """What a sync did.  ``unread`` and ``not_runnable`` name every entry that is missing or held back, with reasons."""

    source: str
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    withdrawn: int = 0
    unread: list[UnreadRecord] = field(default_factory=list)
    not_runnable: dict[str, list[str]] = field(default_factory=dict)
    findings: Counter[str] = field(default_factory=Counter)

    @property
    def read(self) -> int:
        return self.added + self.changed + self.unchanged

    def as_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "read": self.read,
            "added": self.added,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "withdrawn": self.withdrawn,
            "unread": [{"name": u.name, "code": u.code, "message": u.message, "remedy": u.remedy} for u in self.unread],
            "not_runnable": self.not_runnable,
            "findings": dict(sorted(self.findings.items())),
        }


def import_offers(
    store: Store,
    source_id: int,
    offers: Iterable[Offer],
    *,
    complete: bool,
    now: str,
    report: ImportReport | None = None,
) -> ImportReport:
    """Import everything ``offers`` yields.  ``complete``: what the source no longer lists is marked deleted.

    ``report``: a report to go on with, for sources that are read page by page.
    """
    if report is None:
        with store.reading() as session:
            report = ImportReport(session.get_one(Source, source_id).name)
    sync = uuid.uuid4().hex
    stream = iter(offers)
    while batch := list(itertools.islice(stream, BATCH)):
        with store.writing() as session:
            _write_batch(session, source_id, batch, report, sync, now)
    with store.writing() as session:
        if complete:
            report.withdrawn = _withdraw_unseen(session, source_id, sync, now)
        _keep_report(session, source_id, report, complete)
    return report


def _write_batch(
    session: Session, source_id: int, batch: list[Offer], report: ImportReport, sync: str, now: str
) -> None:
    records = [r for r in batch if isinstance(r, EntryRecord)]
    report.unread += [r for r in batch if isinstance(r, UnreadRecord)]
    writer = _Writer(session, source_id, sync, now)
    writer.load(records)
    for record in records:
        outcome = writer.write(record)
        setattr(report, outcome, getattr(report, outcome) + 1)
        _count(report, record)
    writer.finish()
    if writer.dirty:
        touch(session)


def _count(report: ImportReport, record: EntryRecord) -> None:
    report.findings.update(f.code for f in record.findings)
    if reasons := [f"{f.code}: {f.message}" for f in record.findings if f.severity == "error"]:
        report.not_runnable[record.name] = reasons


class _Writer:
    """One batch's worth of upserts, with what exists loaded beforehand."""

    def __init__(self, session: Session, source_id: int, sync: str, now: str) -> None:
        self.session, self.source_id, self.sync, self.now = session, source_id, sync, now
        self.dirty = False
        self.entries: dict[str, CatalogEntry] = {}
        self.versions: dict[tuple[int, str], EntryVersion] = {}
        self.tags: dict[str, int] = {}
        self.rows: dict[Any, list[dict[str, Any]]] = {Tool: [], FindingRow: [], Image: [], EntryTag: []}
        """Written at the end of the batch, in one statement for each table."""

    def load(self, records: list[EntryRecord]) -> None:
        names = {r.name for r in records}
        where = (CatalogEntry.source_id == self.source_id, col(CatalogEntry.name).in_(names))
        self.entries = {e.name: e for e in self.session.exec(select(CatalogEntry).where(*where))}
        ids = [e.id for e in self.entries.values()]
        for v in self.session.exec(select(EntryVersion).where(col(EntryVersion.entry_id).in_(ids))):
            self.versions[v.entry_id, v.version] = v
        wanted = {t for r in records for t in r.tags}
        self.tags = {t.name: t.id for t in self.session.exec(select(Tag).where(col(Tag.name).in_(wanted))) if t.id}

    def write(self, record: EntryRecord) -> str:
        """``added``, ``changed`` or ``unchanged``."""
        entry = self.entries.get(record.name)
        version = self.versions.get((_id(entry), record.version)) if entry else None
        if entry and version and self._same(entry, version, record):
            entry.seen_in = self.sync
            return "unchanged"
        self.dirty = True
        if entry is None:
            self._write_version(self._new_entry(record), None, record, only=True)
            return "added"
        self._derive(entry, record)
        self._write_version(entry, version, record, only=False)
        return "changed"

    def finish(self) -> None:
        for table, rows in self.rows.items():
            _insert(self.session, table, rows)

    def _forget(self, table: Any, column: str, owner: int) -> None:
        """What an earlier state of the same row left, in the table or in this batch."""
        self.session.exec(delete(table).where(getattr(table, column) == owner))
        self.rows[table] = [r for r in self.rows[table] if r[column] != owner]

    def _same(self, entry: CatalogEntry, version: EntryVersion, record: EntryRecord) -> bool:
        same_version = version.digest == record.digest and version.status == record.status
        return (
            same_version
            and version.is_latest == record.is_latest
            and (entry.status == record.status or not record.is_latest)
        )

    def _new_entry(self, record: EntryRecord) -> CatalogEntry:
        entry = CatalogEntry(
            source_id=self.source_id,
            name=record.name,
            kind=record.kind,
            category=record.category,
            tier=record.tier,
            first_seen_at=record.published_at or self.now,
        )
        self._derive(entry, record, anyway=True)
        self.session.flush()
        self.entries[record.name] = entry
        self._write_tags(_id(entry), record.tags)
        return entry

    def _derive(self, entry: CatalogEntry, record: EntryRecord, *, anyway: bool = False) -> None:
        """The entry's own columns follow its latest version."""
        entry.seen_in = self.sync
        if not (record.is_latest or anyway):
            return
        for column in (
            "title",
            "description",
            "kind",
            "category",
            "tier",
            "publisher",
            "licence",
            "homepage",
            "repository",
        ):
            setattr(entry, column, getattr(record, column))
        entry.icon, entry.status, entry.status_message = record.icon, record.status, record.status_message
        entry.network, entry.needs_secrets = (
            record.permissions.network,
            bool(record.permissions.secrets or record.permissions.oauth),
        )
        entry.read_only, entry.runnable = record.read_only, record.runnable
        entry.updated_at = record.updated_at or self.now
        self.session.add(entry)
        if entry.id is not None:
            self._forget(EntryTag, "entry_id", entry.id)
            self._write_tags(entry.id, record.tags)

    def _write_tags(self, entry_id: int, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self.tags:
                tag = Tag(name=name)
                self.session.add(tag)
                self.session.flush()
                self.tags[name] = _id(tag)
        self.rows[EntryTag] += [{"entry_id": entry_id, "tag_id": self.tags[n]} for n in names]

    def _write_version(self, entry: CatalogEntry, old: EntryVersion | None, record: EntryRecord, *, only: bool) -> None:
        if record.is_latest and not only:
            others = update(EntryVersion).where(
                col(EntryVersion.entry_id) == entry.id, col(EntryVersion.version) != record.version
            )
            self.session.exec(others.values(is_latest=False))
        version = old or EntryVersion(entry_id=_id(entry), version=record.version, document=b"", digest="")
        for column in (
            "is_latest",
            "status",
            "published_at",
            "media_type",
            "document",
            "upstream_meta",
            "digest",
            "readme",
            "keywords",
        ):
            setattr(version, column, getattr(record, column))
        version.updated_at = record.updated_at or self.now
        version.permissions = record.permissions.as_dict()
        self.session.add(version)
        self.session.flush()
        self.versions[_id(entry), record.version] = version
        self._write_children(_id(version), record, replace=old is not None)

    def _write_children(self, version_id: int, record: EntryRecord, *, replace: bool) -> None:
        if replace:
            for table in (Tool, FindingRow, Image):
                self._forget(table, "version_id", version_id)
        tools = [
            {
                "version_id": version_id,
                "position": i,
                "name": t.name,
                "description": t.description,
                "arguments": list(t.arguments),
                "annotations": t.annotations,
            }
            for i, t in enumerate(record.tools)
        ]
        findings = [
            {
                "version_id": version_id,
                "code": f.code,
                "severity": f.severity,
                "path": f.path,
                "line": f.line,
                "message": f.message,
                "remedy": f.remedy,
            }
            for f in record.findings
        ]
        images = [{"version_id": version_id, "reference": i.reference, "digest": i.digest} for i in record.images]
        self.rows[Tool] += tools
        self.rows[FindingRow] += findings
        self.rows[Image] += images


def _insert(session: Session, table: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        session.execute(insert(table), rows)


def _id(row: Any) -> int:
    assert row.id is not None
    return int(row.id)


def _withdraw_unseen(session: Session, source_id: int, sync: str, now: str) -> int:
    gone = session.exec(
        select(CatalogEntry).where(
            CatalogEntry.source_id == source_id, CatalogEntry.seen_in != sync, CatalogEntry.status != "deleted"
        )
    ).all()
    for entry in gone:
        entry.status, entry.status_message, entry.updated_at = "deleted", "its source no longer lists it", now
    if gone:
        touch(session)
    return len(gone)


def _keep_report(session: Session, source_id: int, report: ImportReport, complete: bool) -> None:
    source = session.get_one(Source, source_id)
    source.last_report = report.as_dict() | {"unread": len(report.unread), "not_runnable": len(report.not_runnable)}
    if complete:
        session.exec(delete(Unread).where(col(Unread.source_id) == source_id))
    names = [u.name for u in report.unread]
    session.exec(delete(Unread).where(col(Unread.source_id) == source_id, col(Unread.name).in_(names)))
    rows = [
        {"source_id": source_id, "name": u.name, "code": u.code, "message": u.message, "remedy": u.remedy}
        for u in report.unread[:MAX_UNREAD_KEPT]
    ]
    _insert(session, Unread, rows)
