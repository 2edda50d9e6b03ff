"""The console of one installation: its catalog, its lock, its checks, handed to the pages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from catalog.search.embedder import HttpEmbedder
from catalog.search.searcher import Searcher
from catalog.store import Store
from catalog.upkeep import Upkeep
from gateway.held import HeldFiles, approved
from gateway.lock import read_lock
from harbourmaster.core.audit import AuditLog
from harbourmaster.core.settings import Settings
from harbourmaster.up import relocking
from harbourmaster.up.adopting import adopt
from harbourmaster.up.doctor import examine
from harbourmaster.up.report import status_report
from harbourmaster.up.servers import prepare
from sandbox.engine import Engine
from web.access import Access
from web.connecting import places
from web.docks import Docks
from web.errors import Stale
from web.harbour import Harbour, HeldServer
from web.jobs import Jobs, Say
from web.models import Models
from web.stock import Stock
from web.underway import underway


@contextlib.contextmanager
def composed_console(settings: Settings) -> Iterator[Harbour]:
    """Raises what keeps it from starting: a database that cannot be opened, a tokens file that cannot be read."""
    store = Store.open(settings)
    stock, docks = Stock(store, settings), Docks(settings)
    embedder = HttpEmbedder(f"http://127.0.0.1:{settings.runner_port}/v1")
    searcher = Searcher(store, embedder=embedder)
    upkeep = Upkeep(store, settings, searcher)
    try:
        with upkeep:
            yield Harbour(
                settings=settings,
                store=store,
                searcher=searcher,
                access=Access.of(settings),
                examine=lambda: [finding.as_dict() for finding in examine(settings)],
                report=lambda: status_report(settings),
                held=lambda: held(settings),
                approve=lambda name, pin: approve(settings, name, pin),
                build=lambda name, say: build(settings, name, say),
                adopt=lambda name, say: take_over(settings, store, name, say),
                jobs=Jobs(),
                record=lambda facts: record(settings, facts),
                docks=docks,
                models=Models(f"http://127.0.0.1:{settings.runner_port}"),
                places=places(),
                underway=lambda: underway(settings),
                stock=stock.refresh,
            )
    finally:
        stock.close()
        docks.close()
        embedder.close()
        store.close()


def held(settings: Settings) -> list[HeldServer]:
    """Servers that were found to say something else than was locked, with what changed, as `hm lock diff` words it."""
    lock, files = read_lock(settings.lock_file), HeldFiles(settings.held_dir)
    found = []
    for name, server in sorted(lock.items()):
        if parts := files.read(server):
            lines = tuple(relocking.held_lines(settings, server, lock))
            found.append(HeldServer(name, approved(server, parts).pin, lines))
    return found


def approve(settings: Settings, name: str, pin: str) -> None:
    """As `hm lock approve`, of exactly what was shown.  Raises ``Stale`` when the server says something else by now."""
    server = read_lock(settings.lock_file).get(name)
    parts = HeldFiles(settings.held_dir).read(server) if server else {}
    if server and parts and approved(server, parts).pin != pin:
        raise Stale(f"{name} says something else than you were shown", remedy="look at the change again")
    relocking.approve(settings, name, lambda line: None, yes=True)


def build(settings: Settings, name: str, say: Say) -> None:
    """As `hm up --servers NAME`, without running anything."""
    engine = Engine.connect(settings)
    try:
        prepared = prepare(settings, engine, (name,), yes=False, say=say)
    finally:
        engine.close()
    if name in prepared.failed:
        raise prepared.failed[name]


def take_over(settings: Settings, store: Store, name: str, say: Say) -> None:
    """As `hm catalog add NAME --yes`: the person has seen what it may touch and pressed the button."""
    adopt(settings, store, name, say, yes=True, progress=lambda server, stage, fraction: say(stage))


def record(settings: Settings, facts: Mapping[str, Any]) -> None:
    audit = AuditLog(settings.audit_dir)
    try:
        audit.append_durably(dict(facts))
    finally:
        audit.close()
