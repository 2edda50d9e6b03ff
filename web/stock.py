"""What a person finds in the catalog without typing anything: the starter servers, and what was proved about those built here."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from sqlmodel import col, or_, select

from catalog.evidence import verify_entries
from catalog.models import CatalogEntry, EntryVersion, EvidenceFact, Image, Source, Tool
from catalog.service import add_source, sync_source
from catalog.store import Store
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings

log = logging.getLogger("web.stock")

SOURCE = "starter"
CLOSE_S = 5.0

Stamp = tuple[tuple[str, int, int], ...]


def stock_entries(store: Store, settings: Settings) -> None:
    """Have the starter servers in the catalog, as their files are now; quick, and idempotent."""
    with store.reading() as session:
        known = session.exec(
            select(Source).where(Source.kind == "servers", Source.location == _place(settings))
        ).first()
    name = known.name if known else SOURCE
    if known is None:
        add_source(store, SOURCE, "servers", _place(settings))
    sync_source(store, settings, name)


def stock_evidence(store: Store, settings: Settings) -> dict[str, str]:
    """Verify what was built here and not verified yet, offline, and remember what was proved; name -> code of a refusal.

    Reads every byte of the images concerned: seconds, or a minute on a slow disk.
    """
    with store.reading() as session:
        sources = session.exec(
            select(Source.name)
            .join(CatalogEntry, col(CatalogEntry.source_id) == col(Source.id))
            .join(EntryVersion, col(EntryVersion.entry_id) == col(CatalogEntry.id))
            .join(Image, col(Image.version_id) == col(EntryVersion.id))
            .where(Source.kind == "servers", Image.digest != "", col(EntryVersion.is_latest))
            .where(
                # Not verified yet, or imported anew since: the verified tools are to take their place again.
                or_(
                    col(Image.digest).not_in(select(EvidenceFact.digest)),
                    col(EntryVersion.id).not_in(select(Tool.version_id)),
                )
            )
            .distinct()
        ).all()
    outcome: dict[str, str] = {}
    for source in sources:
        outcome |= verify_entries(store, settings, source)
    return outcome


def _place(settings: Settings) -> str:
    return str(Path(settings.servers_dir).expanduser().absolute())


class Stock:
    """Does both when what they read has changed: entries at once, evidence in a thread of its own."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._seen: Stamp | None = None
        self._lock = threading.Lock()
        self._verifying: threading.Thread | None = None
        self._closed = False

    def refresh(self) -> None:
        """Cheap when nothing changed.  A home that cannot be read leaves the catalog as it was; the log says why."""
        if self._closed or not self._lock.acquire(blocking=False):
            return
        try:
            stamp = self._stamp()
            if stamp == self._seen or (self._verifying and self._verifying.is_alive()):
                return
            self._seen = stamp
            stock_entries(self._store, self._settings)
            self._verifying = threading.Thread(target=self._verify, name="stock", daemon=True)
            self._verifying.start()
        except HarbourError as e:
            log.warning("the starter servers are not in the catalog: %s (%s)", e.message, e.code)
        finally:
            self._lock.release()

    def wait(self) -> None:
        """Until what was begun is done."""
        if self._verifying:
            self._verifying.join()

    def close(self) -> None:
        self._closed = True
        if self._verifying:
            self._verifying.join(CLOSE_S)  # it ends with the process; what it has proved is kept

    def _verify(self) -> None:
        try:
            for name, code in stock_evidence(self._store, self._settings).items():
                if code:
                    log.warning("%s: its papers are not accepted (%s); see: hm verify %s", name, code, name)
        except HarbourError as e:
            log.warning("nothing could be verified: %s (%s)", e.message, e.code)

    def _stamp(self) -> Stamp:
        """Changes when a server is built, locked or written, or when whom to trust changes."""
        settings = self._settings
        paths = [
            settings.lock_file,
            settings.home / "builds.json",
            settings.oci_dir / "index.json",
            settings.trust_file,
        ]
        paths += sorted(settings.servers_dir.glob("*/server.yaml"))
        found = []
        for path in paths:
            try:
                stat = path.stat()
            except OSError:
                continue
            found.append((str(path), stat.st_mtime_ns, stat.st_size))
        return tuple(found)
