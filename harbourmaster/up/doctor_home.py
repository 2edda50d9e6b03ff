"""What `hm doctor` looks at in HM_HOME, and at the processes that serve from it."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator

from harbourmaster.core import audit
from harbourmaster.core.settings import Settings
from harbourmaster.up.findings import Check, Finding
from harbourmaster.up.models import COMPILERS
from harbourmaster.up.processes import Service, can_listen, services
from harbourmaster.up.report import status_report
from harbourmaster.up.starting import health_url
from harbourmaster.up.state import RunState, is_alive, read_state


def check_home(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    if not home.exists():
        yield Finding("home", "odd", f"{home} does not exist yet", "run: hm up")
        return
    if not home.is_dir():
        yield Finding("home", "missing", f"{home} is not a folder", "move it away, or set HM_HOME to a folder")
        return
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & 0o077:
        yield Finding("home", "odd", f"{home} is open to others (mode {mode:04o})", f"chmod 700 {home}")
    elif not os.access(home, os.W_OK):
        yield Finding("home", "missing", f"{home} cannot be written", f"chown or chmod {home}, or set HM_HOME")
    else:
        yield Finding("home", "ok", f"{home}")
    for key in sorted(settings.keys_dir.glob("*")) if settings.keys_dir.is_dir() else []:
        key_mode = stat.S_IMODE(key.stat().st_mode)
        if key_mode & 0o077 and not key.name.endswith(".pub"):
            yield Finding("keys", "missing", f"{key} may be read by others (mode {key_mode:04o})", f"chmod 600 {key}")


def check_servers(settings: Settings) -> Iterator[Finding]:
    from gateway.held import HeldFiles
    from gateway.lock import read_lock

    if not settings.lock_file.exists():
        yield Finding("servers", "odd", "no server is built yet", "run: hm up")
        return
    servers = read_lock(settings.lock_file)
    enabled = sum(1 for s in servers.values() if s.enabled)
    yield Finding("servers", "ok", f"{len(servers)} locked, {enabled} enabled")
    held = HeldFiles(settings.held_dir)
    for name in sorted(name for name, server in servers.items() if held.read(server)):
        yield Finding(
            "servers", "odd", f"{name} says something else than was locked and is held", f"hm lock diff {name}"
        )


def check_secrets(settings: Settings) -> Iterator[Finding]:
    from gateway.lock import read_lock
    from harbourmaster.core.secrets import SecretStore, declared_from, missing

    store = SecretStore.of(settings)
    kept = len(store.list())
    lacking = [
        each
        for server in read_lock(settings.lock_file).values()
        if server.enabled
        for each in missing(store, server.name, declared_from(server.run))
    ]
    for secret in lacking:
        yield Finding("secrets", "odd", f"{secret.server} does not start without {secret.name}", secret.set_command)
    if not lacking:
        yield Finding("secrets", "ok", f"{kept} kept; every enabled server has what it needs")


def check_profiles(settings: Settings) -> Iterator[Finding]:
    from gateway.profiles.errors import ProfileInvalid
    from gateway.profiles.files import ProfileFiles

    found = ProfileFiles(settings.profiles_dir).load_all()
    for name, profile in sorted(found.items()):
        if isinstance(profile, ProfileInvalid):
            yield Finding("profiles", "missing", f"{name}: {profile.message}", profile.remedy)
    if found:
        yield Finding("profiles", "ok", ", ".join(sorted(found)))


def check_tokens(settings: Settings) -> Iterator[Finding]:
    from gateway.tokens import TokenStore

    if not settings.tokens_file.exists():
        return
    mode = stat.S_IMODE(settings.tokens_file.stat().st_mode)
    if mode & 0o077:
        text = f"{settings.tokens_file} may be read by others (mode {mode:04o})"
        yield Finding("tokens", "missing", text, f"chmod 600 {settings.tokens_file}")
    else:
        yield Finding("tokens", "ok", f"{len(TokenStore(settings.tokens_file).list())}, readable by this user alone")


def check_trust(settings: Settings) -> Iterator[Finding]:
    from policies.policy_set import PolicySet
    from policies.trust import TrustPolicy

    if settings.trust_file.exists() or settings.keys_dir.exists():  # else reading it would make the key
        yield Finding("trust policy", "ok", f"{TrustPolicy.load(settings).digest[:19]}")
    else:
        yield Finding("trust policy", "ok", "what is built here; the key is made by the first hm up")
    policies = PolicySet.load(settings)
    yield Finding("policies", "ok", f"{len(policies.policies)} about what may run, {policies.digest[:19]}")


def check_audit(settings: Settings) -> Iterator[Finding]:
    if not settings.audit_dir.exists():
        yield Finding("audit", "ok", "no record yet")
        return
    summary = audit.verify(settings.audit_dir)
    yield Finding("audit", "ok", f"{summary.records} records, chain whole")


def check_processes(settings: Settings) -> Iterator[Finding]:
    report, state = status_report(settings), read_state(settings.run_dir)
    if state is None and report["running"]:
        yield Finding("gateway", "ok", f"started by hand, at {report['url']}")
        return
    for service in services(settings):
        if service.port:
            yield _process(settings, state, service, healthy=report["healthy"])


def _process(settings: Settings, state: RunState | None, service: Service, *, healthy: bool) -> Finding:
    name = service.name
    if state is None:
        if can_listen(service.host, service.port):
            return Finding(name, "odd", "not running", "run: hm up --detach")
        return Finding(
            name,
            "missing" if name == "gateway" else "odd",
            f"not running, and another program has {service.address}",
            f"stop that program, or set HM_{name.upper()}_PORT" + _reconnect(name),
        )
    process, log = state.processes.get(name), settings.log_dir / f"{name}.log"
    if name not in state.addresses or process is None or not is_alive(process):
        return Finding(name, "odd", "left out, or it ended", f"read {log}; then: hm down, hm up --detach")
    if name == "gateway" and not healthy:
        return Finding(name, "missing", f"it runs but does not answer at {health_url(state.url)}", f"read {log}")
    where = state.url if name == "gateway" else f"http://{state.addresses[name]}"
    return Finding(name, "ok", f"running at {where} since {state.since}")


def _reconnect(name: str) -> str:
    return " (clients must then be connected again)" if name == "gateway" else ""


def check_models(settings: Settings) -> Iterator[Finding]:
    from runner.setup import state

    now = state(settings)
    if now == "ready":
        yield Finding("local models", "ok", "engine and starter models are here")
    elif now == "preparing":
        yield Finding("local models", "odd", "being prepared", "wait some minutes: hm model status")
    elif any(shutil.which(compiler) for compiler in COMPILERS):
        yield Finding("local models", "odd", "not prepared yet", "run: hm up, or: hm model setup")
    else:
        text = "not prepared, and there is no C++ compiler for their engine"
        yield Finding("local models", "odd", text, "apt-get install g++ libc6-dev (hm up offers to)")


CHECKS: tuple[Check, ...] = (
    check_home,
    check_servers,
    check_secrets,
    check_profiles,
    check_tokens,
    check_trust,
    check_audit,
    check_processes,
    check_models,
)
