"""Not affected, because: what a person found out about one entry and one vulnerability.

Justifications are those of OpenVEX 0.2.0 and CISA's "Status Justifications" (2022).
"""

from __future__ import annotations

from sqlmodel import Session, select

from catalog.entries import find_entry
from catalog.errors import StatementInvalid
from catalog.models import CatalogEntry, VexStatement
from catalog.store import Store, touch
from catalog.text import is_visible, one_line

JUSTIFICATIONS = {
    "component_not_present": "the package is not in the image",
    "vulnerable_code_not_present": "the package is there without the vulnerable code",
    "vulnerable_code_not_in_execute_path": "the vulnerable code never runs",
    "vulnerable_code_cannot_be_controlled_by_adversary": "nobody hostile can reach the vulnerable code",
    "inline_mitigations_already_exist": "something else already prevents it",
}


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
    query = select(VexStatement).where(VexStatement.entry_name == entry.name).order_by(VexStatement.vulnerability)
    return list(session.exec(query))
