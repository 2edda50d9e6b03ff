"""The composition root: one installation's live parts, built from its settings and handed to whoever serves or checks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.dynamic.catalog import CatalogSearch
from gateway.dynamic.code import CODE_RUNNER, SOURCE, runner_server
from gateway.errors import ServerChanged
from gateway.gateway import Gateway
from gateway.leases import Stamp as StartStamp
from gateway.lock import LockedServer, enabled, read_lock
from gateway.profiles.files import ProfileFiles
from gateway.remote.net import Web
from gateway.remote.oauth.grant import Vault
from gateway.remote.oauth.keeper import Keeper
from gateway.remote.spec import RemoteSpec
from gateway.remote.start import AdmittedRemote, Remotes, either
from gateway.tokens import TokenStore
from gateway.toolimages.box import tool_images
from gateway.upstream import Exit, OnExit, OnLine, SandboxStarter
from harbourmaster.containers import Containers, Parts
from harbourmaster.core.audit import Audit
from harbourmaster.core.audit_process import AuditProcess
from harbourmaster.core.digests import sha256
from harbourmaster.core.secrets import Delivery, SecretStore, declared_from, deliver
from harbourmaster.core.secrets.errors import SecretMissing
from harbourmaster.core.settings import Settings
from policies.policy_set import PolicySet
from policies.trust import TrustPolicy
from registry.admit import AdmittedImage, AdmittedSet, Admitter
from registry.build.ours import RELAY, code_target, relay_target
from registry.entry import ENTRY_FILE
from registry.errors import ImageNotFound
from registry.oci.layout import OciLayout
from registry.places import entry_folder
from registry.target import Target, target_of
from registry.toolset import target_of_part
from registry.verify import Verifier
from sandbox.access import Access
from sandbox.egress.broker import Broker
from sandbox.egress.egress import Egress, network
from sandbox.egress.errors import RelayFailed
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.reaper import reap
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec

log = logging.getLogger("harbourmaster.compose")

Stamp = tuple[object, ...]


def verifier(settings: Settings, engine: Engine | None, *, offline: bool = False) -> Verifier:
    """What checks papers, by the trust and policies of this installation as they are now."""
    layout, trust, policies = OciLayout(settings.oci_dir), TrustPolicy.load(settings), PolicySet.load(settings)
    return Verifier(layout, engine, trust, policies, offline=offline)


def target(settings: Settings, name: str) -> Target:
    """The server ``name``, held to the image that the lock names; the relay and the code runner, held to their source."""
    if name == RELAY:
        return relay_target()
    if name == CODE_RUNNER:
        return code_target(SOURCE.read_bytes())
    if "/" in name:  # one of several images of a server
        return target_of_part(settings, name, locked=True)
    locked = read_lock(settings.lock_file).get(name)
    return target_of(settings, name, locked=locked.image if locked is not None else "")


class Targets:
    """``target``, read again when the lock or the entry changed: a large lock takes longer to read than all else that a
    remembered verdict needs.  For threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[str, tuple[Stamp, Target]] = {}
        self._several: tuple[Stamp, dict[str, tuple[str, ...]]] | None = None

    def several(self, name: str) -> tuple[str, ...]:
        """The parts of a server that has an image for each tool; none for the others."""
        stamp, known = _stamp(self._settings.lock_file), self._several
        if known is None or known[0] != stamp:
            lock = read_lock(self._settings.lock_file)
            known = self._several = stamp, {s.name: s.parts for s in lock.values() if s.parts}
        return known[1].get(name, ())

    def __call__(self, name: str) -> Target:
        if name in (RELAY, CODE_RUNNER):
            return target(self._settings, name)
        folder = entry_folder(self._settings, name.partition("/")[0])
        stamp = _stamp(self._settings.lock_file, folder / ENTRY_FILE)
        known = self._known.get(name)
        if known is None or known[0] != stamp:
            known = self._known[name] = stamp, target(self._settings, name)
        return known[1]


class LiveAdmitter:
    """An ``Admitter`` that follows edits of trust and policies without a restart.  Blocking; for threads."""

    def __init__(self, settings: Settings, engine: Engine, audit: Audit) -> None:
        self._settings, self._engine, self._audit = settings, engine, audit
        self._lock = threading.Lock()
        self._targets = Targets(settings)
        self._stamp: Stamp | None = None
        self._trusted: tuple[Path, ...] = (settings.trust_file,)
        self._admitter: Admitter | None = None

    def admit(self, name: str, relaxed: tuple[str, ...] = ()) -> AdmittedImage:
        admitter, several = self._current(), self._targets.several(name)
        if several:
            return AdmittedSet.of(name, [admitter.admit(part, relaxed) for part in several])
        return admitter.admit(name, relaxed)

    def _current(self) -> Admitter:
        with self._lock:
            stamp = self._look()
            if self._admitter is None or stamp != self._stamp:
                settings = self._settings
                checks = verifier(settings, self._engine)
                if checks.trust.files != self._trusted:  # looked at from now on, and read after the look
                    self._trusted = checks.trust.files
                    stamp = self._look()
                    checks = verifier(settings, self._engine)
                self._admitter = Admitter(settings, checks, self._audit, self._targets)
                self._stamp = stamp if checks.trust.files == self._trusted else None
            return self._admitter

    def _look(self) -> Stamp:
        """Of all that trust and policies are read from, keys and roots that trust.yaml names included."""
        return _stamp(*self._trusted, *sorted((self._settings.home / "policies").glob("*.cedar")))


def remotes_of(settings: Settings, record: Callable[[dict[str, Any]], None]) -> Remotes:
    """Connections to servers elsewhere; their tokens are secrets of theirs, renewed by one process at a time."""

    def keeper(name: str, spec: RemoteSpec, web: Web) -> Keeper:
        guard = settings.run_dir / f"oauth-{name}.guard"
        vault, index = Vault(lambda: SecretStore.of(settings), name), settings.secrets_dir / "index.json"
        return Keeper(name, spec.url, web, vault, guard, stamp=lambda: _stamp(index))

    return Remotes(delivering(settings), keeper, record)


def admitting(settings: Settings, images: Callable[[str], Any]) -> Callable[[str], Any]:
    """Admission for servers of both kinds: of one that runs elsewhere there is no image to verify, only its line in the lock."""

    known: tuple[Stamp, frozenset[str]] | None = None

    def admit(name: str) -> Any:
        nonlocal known
        stamp = _stamp(settings.lock_file)
        if known is None or known[0] != stamp:
            lock = read_lock(settings.lock_file)
            known = stamp, frozenset(server.name for server in lock.values() if server.remote)
        return AdmittedRemote(name) if name in known[1] else images(name)

    return admit


class LockWatch:
    """Says when the lock changed.  A lock that cannot be read leaves what is served as it is."""

    def __init__(self, settings: Settings, only: tuple[str, ...]) -> None:
        self._path, self._only = settings.lock_file, only
        self._stamp = _stamp(self._path)

    def current(self) -> dict[str, LockedServer]:
        """Every locked server, profiles choose; with ``only`` those alone, enabled."""
        self._stamp = _stamp(self._path)
        lock = read_lock(self._path)
        if not self._only:
            return lock
        return {name: replace(server, enabled=True) for name, server in enabled(lock, self._only).items()}

    def changed(self) -> dict[str, LockedServer] | None:
        return self.current() if _stamp(self._path) != self._stamp else None


Deliver = Callable[[LockedServer], Delivery]  # blocking; raises when a secret is missing or cannot be read


def delivering(settings: Settings) -> Deliver:
    """Reads a server's secrets anew at every start, so that a rotated one is in the next sandbox."""
    store = SecretStore.of(settings)
    return lambda server: deliver(store, server.name, declared_from(server.run))


def starter(
    engine: Engine,
    profile: Profile,
    record: Callable[[dict[str, Any]], None],
    egress: Egress | None = None,
    secrets: Deliver | None = None,
) -> SandboxStarter:
    """Start sandboxes from what was admitted, and record their beginning and end.

    ``egress``: for servers with network rules; without it those are refused.  ``secrets``: for servers that declare
    some; without it those are refused.
    """

    async def start(server: LockedServer, admitted: Any, on_line: OnLine, on_exit: OnExit) -> Sandbox:
        if server.profile != profile.digest:
            raise ServerChanged(
                f"{server.name} was locked with sandbox profile {server.profile or 'none'}, but {profile.digest} applies",
                remedy="look at the change and accept it: hm lock update",
            )
        facts = {"server": server.name, "image": admitted.image}
        spec = _spec(server, admitted, await _delivery(server, secrets))
        net = await network(egress, server.name, server.run.get("network") or {})

        def ended(exit: Exit) -> None:
            net.release()
            on_exit(exit)
            with contextlib.suppress(Exception):  # the audit itself says when it is down, and then calls stop
                record({"kind": "sandbox", "event": "stop", **facts, "sandbox": box.id, "status": exit.status})

        try:
            box = await Sandbox.start(engine, profile, net.join(spec), on_line=on_line, on_exit=ended)
        except BaseException:
            net.release()
            raise
        net.serve(box)
        try:
            record({"kind": "sandbox", "event": "start", **facts, "sandbox": box.id})
        except BaseException:
            await box.stop(grace_s=0)
            raise
        return box

    return tool_images(start)


def stamping(secrets: Deliver) -> StartStamp:
    """What a start depends on beside the image: a hash of the secrets as they are now, so that a sandbox made ahead of
    demand is not given away after one of them was rotated."""

    async def stamp(server: LockedServer) -> str:
        if server.remote:
            return ""
        delivery = await _delivery(server, secrets)
        given = [sorted(delivery.env.items()), sorted(delivery.files.items())]
        return sha256(json.dumps(given).encode()) if any(given) else ""

    return stamp


async def _delivery(server: LockedServer, secrets: Deliver | None) -> Delivery:
    if not declared_from(server.run):
        return Delivery()
    if secrets is None:
        raise SecretMissing(f"{server.name} declares secrets, and none can be given here", remedy="run: hm up")
    return await asyncio.to_thread(secrets, server)


def _spec(server: LockedServer, admitted: AdmittedImage, delivery: Delivery) -> SandboxSpec:
    run = server.run
    return SandboxSpec(
        server=server.name,
        image_id=admitted.image_id,
        image=admitted.image,
        command=tuple(run.get("command", ())),
        env=dict(run.get("env", {})) | dict(delivery.env),
        secret_env=delivery.secret_env,
        secret_files=delivery.files,
        user=run.get("user", ""),
        limits=dict(run.get("limits", {})),
        access=Access.parse(run, server.granted),
        one_shot=run.get("one_shot") is True,
    )


def egress_of(
    settings: Settings, engine: Engine, profile: Profile, admit: Callable[[str], AdmittedImage], audit: Audit
) -> Egress:
    """The broker of this process; its sockets lie in HM_HOME/run/egress."""
    broker = Broker(settings.run_dir / "egress", audit.append)

    def relay_image() -> str:
        try:
            return admit(RELAY).image_id
        except ImageNotFound as e:
            raise RelayFailed("the egress relay is not built here", remedy="build it, once: hm up") from e

    return Egress(engine, profile, broker, relay_image)


def code_runner(admit: Callable[[str], AdmittedImage], profile: Profile) -> Callable[[], LockedServer]:
    """Blocking: the code runner as it was admitted just now.  Raises what admission raises."""

    def admitted() -> LockedServer:
        found = admit(CODE_RUNNER)
        return runner_server(found.image, found.image_id, profile.digest)

    return admitted


@contextlib.asynccontextmanager
async def composed_gateway(
    settings: Settings, only: tuple[str, ...] = (), *, dynamic: bool = False
) -> AsyncIterator[Gateway]:
    """The gateway of this installation, serving its profiles, or ``only`` those servers; on leaving, nothing is left.

    Raises what keeps it from starting: an unreadable lock, an audit that cannot be written.  Without an engine it starts,
    and says so: servers in containers can be called once one answers.
    """
    watch = LockWatch(settings, only)
    servers = watch.current()
    audit = AuditProcess(settings.audit_dir)
    try:
        profile = await asyncio.to_thread(Profile.load)
        containers = containers_of(settings, profile, audit)
        try:
            await _look_for_an_engine(containers, servers)
            remotes, catalog = remotes_of(settings, audit.append), CatalogSearch(settings)
            gateway = Gateway(
                settings,
                servers,
                admit=admitting(settings, containers.admit),
                start=either(containers.start, remotes),
                append=audit.append,
                stamp=stamping(delivering(settings)),
                tokens=TokenStore(settings.tokens_file),
                reload=watch.changed,
                profiles=ProfileFiles(settings.profiles_dir),
                limits={name: limit.default for name, limit in profile.limits.items()},
                dynamic=dynamic,
                admit_relaxed=containers.admit,
                catalog=catalog.search,
                code=code_runner(containers.admit, profile),
            )
            try:
                async with gateway:
                    yield gateway
            finally:
                await asyncio.to_thread(catalog.close)
                await remotes.close()
        finally:
            await containers.close()
    finally:
        await asyncio.to_thread(audit.close)


def containers_of(settings: Settings, profile: Profile, audit: Audit) -> Containers:
    """What runs servers in containers here; looks for an engine when it is first needed."""

    def fit(engine: Engine) -> Parts:
        _reap(engine, audit)
        admit = LiveAdmitter(settings, engine, audit).admit
        egress = egress_of(settings, engine, profile, admit, audit)
        return Parts(engine, admit, starter(engine, profile, audit.append, egress, delivering(settings)), egress)

    return Containers(lambda: Engine.connect(settings), fit, audit.append)


async def _look_for_an_engine(containers: Containers, servers: Mapping[str, LockedServer]) -> None:
    missing = await asyncio.to_thread(containers.begin)
    if missing is not None:
        waiting = sorted(s.name for s in servers.values() if s.enabled and not s.remote)
        log.warning(
            "%s; %s in containers cannot be called until one does, and is looked for at every such call; %s",
            missing.message,
            "1 server" if len(waiting) == 1 else f"{len(waiting)} servers",
            missing.remedy,
        )


async def reaped(engine: Engine, audit: Audit) -> None:
    """Remove what a crashed gateway left behind."""
    await asyncio.to_thread(_reap, engine, audit)


def _reap(engine: Engine, audit: Audit) -> None:
    reaped = reap(engine)
    if reaped:
        log.warning("removed %d sandboxes that a crashed gateway left behind", reaped)
        audit.append({"kind": "sandbox", "event": "reap", "count": reaped})


def _stamp(*paths: Path) -> Stamp:
    """Changes when a file does: whole files are renamed into place, so the inode is part of it."""
    found: list[object] = []
    for path in paths:
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        found.append((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)
