"""What people say about known vulnerabilities: not affected, because; or that it counts again.  Blocking."""

from __future__ import annotations

from catalog.service import utc_now
from catalog.vulnerabilities.statements import state_not_affected, withdraw_statement
from web import deeds
from web.harbour import Harbour
from web.identity import Who


def not_affected(harbour: Harbour, who: Who, name: str, vulnerability: str, because: str, statement: str) -> None:
    """As `hm catalog vulnerabilities not-affected`; the author is the token's name.  ``StatementInvalid``, ``EntryUnknown``."""
    deeds.note(harbour, who, "not_affected", server=name[:255], vulnerability=vulnerability[:128], because=because[:64])
    state_not_affected(harbour.store, name, vulnerability, because, statement, who.token, utc_now())


def counts_again(harbour: Harbour, who: Who, name: str, vulnerability: str) -> None:
    """As `hm catalog vulnerabilities withdraw`."""
    deeds.note(harbour, who, "affected_again", server=name[:255], vulnerability=vulnerability[:128])
    withdraw_statement(harbour.store, name, vulnerability)
