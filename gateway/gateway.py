"""The gateway: everything below the edges, put together.  Imports no engine: what it needs is handed in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from gateway import sdk
from gateway.admission import Admissions, Admit, AdmitRelaxed
from gateway.authorization.authorizer import Held, PolicyWatch
from gateway.calls import NOWHERE, Outlet
from gateway.differences import Differences
from gateway.downstream import Downstream
from gateway.drift import Drift
from gateway.dynamic.code import Scripts
from gateway.dynamic.conversation import Conversations
from gateway.dynamic.find import Catalog
from gateway.dynamic.own import OwnTools
from gateway.errors import CallCancelled, TooManySessions
from gateway.forward import Forwarder
from gateway.gatekeeper import Gatekeeper
from gateway.happenings import Happenings
from gateway.hiding import hidden, still_hidden
from gateway.index import Index
from gateway.interceptors.config import Hook
from gateway.interceptors.hooks import Ask
from gateway.interceptors.sandboxed import SandboxedHook
from gateway.leases import Leases, Stamp
from gateway.limits import LIMITS
from gateway.lock import LockedServer
from gateway.modern import ModernClient
from gateway.pool import unstamped
from gateway.pool_habits import Habits, load, save
from gateway.pool_lease import Lease
from gateway.pool_settings import pool_settings
from gateway.principals import LOCAL, Principal
from gateway.profiles.files import ProfileFiles
from gateway.profiles.values import Limits
from gateway.profiles.view import DEFAULT, View
from gateway.profiles.views import Profiles, Views
from gateway.record import MAX_SERVERS, Append, Recorder
from gateway.refusals import Refusals
from gateway.router import Router
from gateway.sessions import Session, Sessions
from gateway.telemetry.config import TelemetryConfig
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracer import Tracer
from gateway.tokens import TokenStore
from gateway.upstream import SandboxStarter
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from policies.authorization import CallPolicies

if TYPE_CHECKING:
    from gateway.telemetry.export import Exporter

log = logging.getLogger("gateway")

SERVER_INFO: dict[str, Any] = {"name": "harbourmaster", "title": "Harbourmaster", "version": version("harbourmaster")}

HABITS_FILE = "pool.json"
AHEAD_S = 1.0  # after the start, what only some calls need is loaded before one does; who waited for us goes first

Servers = Mapping[str, LockedServer]

# Which list of which method a client must fetch again when it changed.
_LISTS = {
    "notifications/tools/list_changed": ("tools/list",),
    "notifications/prompts/list_changed": ("prompts/list",),
    "notifications/resources/list_changed": ("resources/list", "resources/templates/list"),
}


class Gateway:
    """Usage: ``async with Gateway(...) as gateway: await serve(gateway)``; leaving it ends every sandbox.

    ``admit``: blocking, raises when a server may not run.  ``start``: starts a sandbox.  ``append``: the audit's.
    ``reload``: blocking; the enabled servers when they changed since it was last asked, else None.
    """

    def __init__(
        self,
        settings: Settings,
        servers: Servers,
        *,
        admit: Admit,
        start: SandboxStarter,
        append: Append,
        tokens: TokenStore,
        stamp: Stamp = unstamped,
        reload: Callable[[], Servers | None] | None = None,
        profiles: ProfileFiles | None = None,
        limits: Limits | None = None,
        dynamic: bool = False,
        catalog: Catalog | None = None,
        code: Callable[[], LockedServer] | None = None,
        admit_relaxed: AdmitRelaxed | None = None,
    ) -> None:
        self.settings = settings
        self.tokens = tokens
        self.sessions = Sessions()
        self.happenings = Happenings()
        self.watchers: set[Outlet] = set()  # of the operator's event stream
        self.metrics = Metrics()
        self.traces = self._exporter()
        self.recorder = Recorder(append, self._recorded)
        self.refusals = Refusals(self.recorder.call)
        self._differences = Differences(settings.held_dir, self.recorder, self._differs)
        self._reload = reload
        self._admissions = Admissions(admit, admit_relaxed)
        self.leases = self._pool(start, stamp)
        self._policies = PolicyWatch(settings)
        self._gate = Gatekeeper.of(settings, self.recorder.call, self._in_sandbox)
        self._forwarder = Forwarder(
            self.leases,
            self._admissions,
            self.recorder,
            gate=self._gate,
            timeout_s=settings.call_timeout_s,
        )
        if self.traces is not None:
            self._forwarder.tracer = Tracer(self.traces, self._gate.pipeline.clean)
        self._profiles = profiles
        known = profiles.load_all() if profiles is not None else {}
        self.views = Views(servers, known, SERVER_INFO, limits=limits, dynamic=dynamic, code=code is not None)
        self._forwarder.own = self._own_tools(append, catalog, code)
        self.router = Router(self._forwarder)
        self._modern: dict[tuple[str, str, str], ModernClient] = {}
        self._connections: set[Session | ModernClient] = set()  # of stdio edges
        self._sweeper: asyncio.Task[None] | None = None
        self.began = 0.0  # the event loop's time
        self._tokens_seen = tokens.revision
        self._complaint = ""

    def _pool(self, start: SandboxStarter, stamp: Stamp) -> Leases:
        return Leases(
            starter=start,
            admit=self._admissions.check,
            **pool_settings(self.settings),
            client_info=SERVER_INFO,
            stamp=stamp,
            report=self._differences.report,
            notify=self.happenings.publish,
            habits=Habits(load(self.settings.run_dir / HABITS_FILE)),
        )

    def _own_tools(self, append: Append, catalog: Catalog | None, code: Callable[[], LockedServer] | None) -> OwnTools:
        conversations = Conversations(
            self.views,
            SERVER_INFO,
            may=self._forwarder.may,
            admit=self._admissions.check,
            refit=self.refit,
            append=append,
            keep=self._profiles.keep if self._profiles is not None else None,
            catalog=catalog,
        )
        self._conversations = conversations
        own = OwnTools(self._forwarder.forward, conversations)
        if code is not None:
            own.script = Scripts(self.leases, code, own.within)
        return own

    def _exporter(self) -> Exporter | None:
        config = TelemetryConfig.read(self.settings.telemetry)
        if not config.otlp_endpoint:
            return None
        from gateway.telemetry.export import Exporter  # and with it an HTTP client

        return Exporter(config, SERVER_INFO["version"])

    def _recorded(self, record: dict[str, Any]) -> None:
        self.metrics.recorded(record)
        self.happenings.recorded(record)

    def _in_sandbox(self, hook: Hook) -> Ask:
        """An interceptor that is an MCP server: its tool ``intercept``, asked by a session of the gateway's own."""
        return SandboxedHook(hook, self).ask

    @property
    def index(self) -> Index:
        """What the profile ``default`` serves."""
        return self.views.get(DEFAULT).index

    @property
    def sandboxes(self) -> int:
        return len(self.leases)

    async def __aenter__(self) -> Gateway:
        self.began = asyncio.get_running_loop().time()
        names = sorted(self.index.servers)
        self.recorder.event(event="start", servers=names[:MAX_SERVERS], count=len(names))
        for server, drift in await asyncio.to_thread(self._differences.remembered, self.views.lock):
            self._differs(server, drift)
        if self.traces is not None:
            self.traces.start()
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        await self.wind_down()
        await self._differences.close()
        await self._keep_habits()
        await self._admissions.close()
        await self._gate.close()
        self._conversations.close()
        if self.traces is not None:
            await self.traces.close()
        self.refusals.close(asyncio.get_running_loop().time())
        self.recorder.event(event="stop")

    # -- clients

    def view(self, profile: str) -> View:
        """Raises ``ProfileUnknown``, ``ProfileInvalid``."""
        return self.views.get(profile)

    def open_session(self, principal: Principal, view: View | None = None) -> Session:
        """A new HTTP session.  Raises ``TooManySessions``."""
        evicted = self.sessions.to_evict(principal)
        if evicted is not None:
            self.close(evicted)
        session = self.sessions.create(principal, asyncio.get_running_loop(), view or self.view(DEFAULT))
        session.screen = self._gate.pipeline.screen
        return session

    def open_connection(self, principal: Principal, key: str, view: View | None = None) -> tuple[Session, ModernClient]:
        """Both faces of one stdio connection; ``close_connection`` ends what it held."""
        loop, view = asyncio.get_running_loop(), view or self.view(DEFAULT)
        session = Session(principal, key, loop, view)
        modern = ModernClient(principal, key, loop, view, by_connection=True)
        session.screen = modern.screen = self._gate.pipeline.screen
        self._connections |= {session, modern}
        return session, modern

    def modern_client(self, principal: Principal, client_info: Any, view: View | None = None) -> ModernClient:
        """Over HTTP: whoever calls under this profile, principal and client name, until idle.  Raises ``TooManySessions``."""
        view = view or self.view(DEFAULT)
        name = client_info.get("name") if isinstance(client_info, dict) else None
        key = (view.name, principal.key, name if isinstance(name, str) else "")
        client = self._modern.get(key)
        if client is not None and client.view is not view:  # of a profile that was removed, and is there again
            self.close(client)
            client = None
        if client is None:
            self._make_way()
            loop = asyncio.get_running_loop()
            client = ModernClient(principal, "\0".join(key), loop, view, by_connection=False)
            client.screen = self._gate.pipeline.screen
            self._modern[key] = client
        client.principal = principal
        client.used = client.loop.time()
        return client

    def _make_way(self) -> None:
        """A client chooses its own name, and could be a new one with every request: as ``Sessions.to_evict``."""
        if len(self._modern) < LIMITS.sessions:
            return
        of = Counter(client.principal.key for client in self._modern.values())
        free = [(key, client) for key, client in self._modern.items() if not client.busy]
        if not free:
            raise TooManySessions(f"{LIMITS.sessions} clients are here", remedy="end some, or wait")
        key, client = min(free, key=lambda each: (-of[each[1].principal.key], each[1].used))
        self.close(client)
        del self._modern[key]

    def close(self, client: Session | ModernClient) -> None:
        """The client left: its sandboxes end, its calls fail."""
        self.leases.end_all(client)
        self._connections.discard(client)
        if isinstance(client, Session):
            self.sessions.remove(client)
        client.hang_up()

    async def wind_down(self) -> None:
        """Answer what is in flight with an error, close every stream, end every sandbox; then an edge can stop."""
        self.end_streams()
        await self.leases.close()

    def end_streams(self) -> None:
        for client in self.clients():
            client.hang_up()
        for watcher in tuple(self.watchers):
            watcher.close()

    def clients(self) -> list[Session | ModernClient]:
        return [*self.sessions, *self._modern.values(), *self._connections]

    def _differs(self, server: LockedServer, drift: Drift) -> None:
        self._offer_without(hidden(self._gate.authorizer.held, server, drift, self.views.lock))

    def _offer_without(self, held: Held) -> None:
        """What is held leaves the lists; calls to it are refused in words as before.  Who listens is told, and no call is
        interrupted for it."""
        if held is not self._gate.authorizer.held:
            self._gate.authorizer.held = held
            self._announce_lists(
                client for client in self.clients() if isinstance(client, ModernClient) or client.stream is not NOWHERE
            )

    def _announce_lists(self, clients: Iterable[Session | ModernClient]) -> None:
        for client in clients:
            for change in _LISTS:
                client.announce(change)

    # -- housekeeping

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        pinged = reloaded = loop.time()
        ahead = False
        while True:
            await asyncio.sleep(LIMITS.sweep_s)
            now = loop.time()
            try:
                if not ahead and now - self.began >= AHEAD_S:
                    ahead = True
                    await asyncio.to_thread(sdk.preload)
                self.leases.sweep(now)
                self._sweep_clients(now)
                self.refusals.sweep(now)
                if now - pinged >= LIMITS.ping_s:
                    pinged = now
                    self._ping()
                if now - reloaded >= 1.0:
                    reloaded = now
                    await self.look_for_changes()
                    await self._keep_habits()
            except Exception:
                log.exception("housekeeping failed; it will be tried again")

    def _expel(self) -> None:
        """End what clients hold whose token was revoked: its streams, its calls, its sandboxes."""
        for client in self.clients():
            who = client.principal
            if not who.issuer and who.key != LOCAL.key and not self.tokens.holds(who.key):
                self._dismiss(client)
        for watcher in tuple(self.watchers):  # whoever still may comes back
            watcher.close()

    def _dismiss(self, client: Session | ModernClient) -> None:
        log.info("%s may no longer be here; what it held is ended", client.principal.name)
        for call in tuple(client.calls.values()):
            client.cancel(call, "the token has ended", CallCancelled("the token has ended"))
        self.close(client)
        if isinstance(client, ModernClient):
            self._modern = {key: each for key, each in self._modern.items() if each is not client}

    def _sweep_clients(self, now: float) -> None:
        for session in self.sessions.stale(now):
            self.close(session)
        ended = time.time()
        for who in self.clients():
            if who.principal.expires is not None and who.principal.expires <= ended:
                self._dismiss(who)
        for key, client in tuple(self._modern.items()):
            client.sweep(now)
            if not client.in_use:
                del self._modern[key]

    def _ping(self) -> None:
        for client in self.clients():
            client.ping()
        for watcher in tuple(self.watchers):
            watcher.ping()

    async def _keep_habits(self) -> None:
        habits = self.leases.pool.habits
        if habits.changed:
            await asyncio.to_thread(save, self.settings.run_dir / HABITS_FILE, habits.dump())

    async def look_for_changes(self) -> None:
        """Files that cannot be read leave everything as it is, and are complained about once."""
        try:
            self.tokens.refresh()
            if self.tokens.revision != self._tokens_seen:
                self._tokens_seen = self.tokens.revision
                self._expel()
            servers = await asyncio.to_thread(self._reload) if self._reload is not None else None
            profiles = await asyncio.to_thread(self._profiles.changed) if self._profiles is not None else None
            policies = await asyncio.to_thread(self._policies.changed)
        except HarbourError as e:
            if e.message != self._complaint:
                log.error("%s [%s]; nothing was changed", e.message, e.code)
            self._complaint = e.message
            return
        self._complaint = ""
        if servers is not None or profiles is not None:
            self.serve(servers, profiles)
        if policies is not None:
            self.decide_by(policies)

    @property
    def policies(self) -> CallPolicies:
        """Those that decide about calls now."""
        return self._gate.authorizer.policies

    def decide_by(self, policies: CallPolicies) -> None:
        """Decide by these from now on; clients hear that what they are offered may have changed."""
        self._gate.authorizer.policies = policies
        self._announce_lists(self.clients())
        log.info("deciding by %d policies", len(policies.set.policies))

    def serve(self, servers: Servers | None, profiles: Profiles | None = None) -> None:
        """Serve these from now on (None: as before); sessions live on, clients hear which of their lists changed."""
        seen, locked = [(client, client.index) for client in self.clients()], self.views.lock
        self.views.update(servers, profiles)
        self._admissions.forget()
        self.leases.keep_only(self.views.lock)
        for client, before in seen:
            ground = self.views.ground(client.view)
            if client.own is not None and ground is not None:
                client.own.rebase(ground, client.view.index)
            elif client.own is not None:  # its profile is not dynamic any more
                client.own = None
            self.refit(client, before, self._evicted)
        self._offer_without(still_hidden(self._gate.authorizer.held, locked, self.views.lock))
        log.info("serving %d servers", len(self.index.servers))

    def _evicted(self, lease: Lease) -> None:
        self.leases.evict(lease, "because the lock or the profile changed")

    def refit(self, client: Downstream, before: Index, end: Callable[[Lease], None] | None = None) -> None:
        """``client`` sees something else than ``before``: sandboxes of what is not served any more end, and it is told."""
        now = client.index
        for lease in tuple(client.leases.values()):
            if now.servers.get(lease.server.name) is not lease.server:  # leases know their server by identity
                (end or self.leases.end)(lease)
        for change, lists in _LISTS.items():
            if any(before.handshake_lists[m] != now.handshake_lists[m] for m in lists):
                client.announce(change)
