"""The console of one installation: its catalog, its lock, its checks, handed to the pages."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from catalog.search.embedder import HttpEmbedder
from catalog.search.searcher import Searcher
from catalog.store import Store
from catalog.upkeep import Upkeep
from gateway.held import HeldFiles, approved
from gateway.lock import read_lock
from gateway.remote.oauth.grant import Grant
from harbourmaster.core.audit import AuditLog
from harbourmaster.core.settings import Settings
from harbourmaster.up import relocking, remote
from harbourmaster.up.adopting import adopt, adopt_remote, offer
from harbourmaster.up.doctor import examine
from harbourmaster.up.report import status_report
from harbourmaster.up.servers import prepare
from registry.places import find_entry
from sandbox.engine import Engine
from web.access import Access
from web.connecting import places
from web.docks import Docks
from web.errors import Stale
from web.harbour import Harbour, HeldServer
from web.jobs import Jobs, Say
from web.logins import Login, Logins
from web.models import Models
from web.reach import is_remote_entry
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
                examine=lambda: [_seen(finding.as_dict()) for finding in examine(settings)],
                report=lambda: status_report(settings),
                held=lambda: held(settings),
                approve=lambda name, pin: approve(settings, name, pin),
                build=lambda name, say: build(settings, name, say),
                adopt=lambda name, say: take_over(settings, store, name, say),
                log_in=lambda name, login: log_in(settings, name, login),
                connect=lambda name, login: connect(settings, store, name, login),
                log_out=lambda name: remote.logout(settings, name),
                logins=Logins(),
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


def _seen(finding: dict[str, Any]) -> dict[str, Any]:
    """A console that was started alone is not among those that `hm up` knows, and yet somebody looks at it."""
    if finding["name"] != "console" or finding["level"] == "ok":
        return finding
    return finding | {"level": "ok", "text": "it shows you this page", "remedy": ""}


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


class Visit(remote.Login):
    """A person who is in the console, and comes back to it."""

    def __init__(self, login: Login) -> None:
        super().__init__(lambda url: None)
        self._login = login

    @contextlib.asynccontextmanager
    async def redirect(self, before: Grant | None) -> AsyncIterator[Login]:
        yield self._login


def log_in(settings: Settings, name: str, login: Login) -> None:
    remote.login_now(settings, name, Visit(login))


def connect(settings: Settings, store: Store, name: str, login: Login) -> None:
    """The person has seen where it is and what it is sent, and pressed the button."""
    if not is_remote_entry(settings, name):
        adopt_remote(settings, offer(store, name), lambda line: None, yes=True)
    remote.add(settings, find_entry(settings, name), lambda line: None, Visit(login), yes=True)


def record(settings: Settings, facts: Mapping[str, Any]) -> None:
    audit = AuditLog(settings.audit_dir)
    try:
        audit.append_durably(dict(facts))
    finally:
        audit.close()
