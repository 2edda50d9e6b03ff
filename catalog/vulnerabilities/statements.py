"""Not affected, because: what a person found out about one entry and one vulnerability, here or in the entry itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlmodel import Session, col, select

from catalog.entries import find_entry
from catalog.errors import StatementInvalid
from catalog.models import CatalogEntry, EntryVersion, Source, VexStatement
from catalog.sources import ours
from catalog.store import Store, touch
from catalog.text import is_visible, one_line
from harbourmaster.core.errors import HarbourError
from registry.schema import ENTRY_FILE, parse_entry
from registry.vex import JUSTIFICATIONS

__all__ = ["JUSTIFICATIONS", "THE_ENTRY", "state_not_affected", "statements_on", "withdraw_statement"]

THE_ENTRY: Final = "the entry"  # the author of what an entry says of itself
REVIEWED: Final = "servers"  # the kind of source that is this project's own folder of entries


def state_not_affected(
    store: Store, entry_name: str, vulnerability: str, justification: str, statement: str, author: str, now: str
) -> VexStatement:
    """Remember the statement, in place of an earlier one; raises ``StatementInvalid`` or ``EntryUnknown``."""
    if justification not in JUSTIFICATIONS:
        raise StatementInvalid(f"no justification {justification!r}", remedy=f"one of: {', '.join(JUSTIFICATIONS)}")
    if len(statement.strip()) < 10 or not is_visible(statement):
        raise StatementInvalid("a statement says in a sentence why", remedy="write at least ten characters")
    with store.writing() as session:
        find_entry(session, entry_name)
        row = _existing(session, entry_name, vulnerability) or VexStatement(
            entry_name=entry_name, vulnerability=one_line(vulnerability, 128), justification=""
        )
        row.justification, row.statement = justification, one_line(statement, 1000)
        row.author, row.made_at = one_line(author, 200), now
        session.add(row)
        touch(session, advisories=True)
    return row


def withdraw_statement(store: Store, entry_name: str, vulnerability: str) -> None:
    with store.writing() as session:
        row = _existing(session, entry_name, vulnerability)
        if row is None:
            raise StatementInvalid(
                f"nothing was said about {vulnerability} in {entry_name}", remedy="see hm catalog vulnerabilities"
            )
        session.delete(row)
        touch(session, advisories=True)


def _existing(session: Session, entry_name: str, vulnerability: str) -> VexStatement | None:
    where = (VexStatement.entry_name == entry_name, VexStatement.vulnerability == vulnerability)
    return session.exec(select(VexStatement).where(*where)).first()


def statements_on(session: Session, entry: CatalogEntry) -> list[VexStatement]:
    """What the entry says of itself, then what was said here, which counts for more."""
    query = select(VexStatement).where(VexStatement.entry_name == entry.name).order_by(VexStatement.vulnerability)
    return [*_of_the_entry(session, entry), *session.exec(query)]


def _of_the_entry(session: Session, entry: CatalogEntry) -> list[VexStatement]:
    """Only of entries that were reviewed here: another catalog's word for its own servers changes no verdict."""
    where = (EntryVersion.entry_id == entry.id, col(EntryVersion.is_latest), Source.kind == REVIEWED)
    query = select(EntryVersion).join(CatalogEntry, col(CatalogEntry.id) == col(EntryVersion.entry_id))
    version = session.exec(query.join(Source, col(Source.id) == col(CatalogEntry.source_id)).where(*where)).first()
    if version is None or version.media_type != ours.MEDIA_TYPE or b"not_affected" not in version.document:
        return []
    try:
        said = parse_entry(Path(entry.name) / ENTRY_FILE, version.document).not_affected
    except HarbourError:
        return []
    return [
        VexStatement(
            entry_name=entry.name,
            vulnerability=each.vulnerability,
            justification=each.because,
            statement=each.statement,
            author=THE_ENTRY,
        )
        for each in said
    ]
