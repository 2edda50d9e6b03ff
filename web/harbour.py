"""What the console is given to work with.  Nothing here opens anything: the composition root does (harbourmaster/up/console.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from catalog.search.searcher import Searcher
from catalog.store import Store
from gateway.clients.places import Places
from harbourmaster.core.settings import Settings
from web.access import Access
from web.docks import Docks
from web.jobs import Jobs, Say
from web.logins import Login, Logins
from web.models import Models


@dataclass(frozen=True)
class HeldServer:
    """A server that says something else than was locked.  ``pin``: of what it says, so that nobody approves another."""

    name: str
    pin: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Harbour:
    """``examine``: rows of `hm doctor` (name, level, text, remedy).  ``report``: `hm status`.  All blocking; for threads."""

    settings: Settings
    store: Store
    searcher: Searcher
    access: Access
    examine: Callable[[], list[dict[str, Any]]]
    report: Callable[[], dict[str, Any]]
    held: Callable[[], list[HeldServer]]
    approve: Callable[[str, str], None]
    """Server, pin: serve it as it was found.  Raises when that is not what is held now."""
    build: Callable[[str, Say], None]
    """A starter server: built, papered, verified and locked, as `hm up --servers NAME` does.  Minutes."""
    adopt: Callable[[str, Say], None]
    """A server of another catalog: pulled, verified and locked, as `hm catalog add NAME --yes` does.  Minutes."""
    log_in: Callable[[str, Login], None]
    """A remote server, and the way that its authorization server's answer comes back: as `hm server login`.  Minutes."""
    connect: Callable[[str, Login], None]
    """A remote server of the catalog, connected to, listed and locked: as `hm server add NAME --yes`.  Minutes."""
    log_out: Callable[[str], str]
    """As `hm server logout`; what was done, in words."""
    logins: Logins
    jobs: Jobs
    record: Callable[[Mapping[str, Any]], None]
    """On the audit, on disk, before it is done."""
    docks: Docks
    models: Models
    places: Places
    """Where this person's MCP clients keep their files."""
    underway: Callable[[], dict[str, Any] | None]
    """The gateway's sessions, leases and pool, as it says itself; None where no gateway answers."""
    stock: Callable[[], None]
    """Have the catalog hold what this home has, when that changed; returns at once."""
