"""`hm doctor`: each check is a small function that returns findings; a finding names the thing and its remedy."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harbourmaster.core import audit
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from harbourmaster.up.state import read_state

if TYPE_CHECKING:
    from sandbox.engine import EngineInfo

Level = Literal["ok", "odd", "missing"]
LOW_DISK_BYTES = 2 << 30  # twelve starter servers, their bases and the engine's copy of them take about 1.5 GB
OLDEST_ENGINE = (20, 10)


@dataclass(frozen=True)
class Finding:
    name: str
    level: Level
    text: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Check = Callable[[Settings], Iterator[Finding]]


def examine(settings: Settings) -> list[Finding]:
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found.extend(check(settings))
        except HarbourError as e:
            found.append(Finding(check.__name__.removeprefix("check_"), "missing", f"[{e.code}] {e.message}", e.remedy))
        except OSError as e:
            found.append(Finding(check.__name__.removeprefix("check_"), "missing", str(e), "see the message"))
    return found


def check_python(settings: Settings) -> Iterator[Finding]:
    yield Finding("python", "ok", f"Python {platform.python_version()} in {sys.prefix}")


def check_home(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    if not home.exists():
        yield Finding("home", "odd", f"{home} does not exist yet", "run: ./hm up")
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


def check_disk(settings: Settings) -> Iterator[Finding]:
    place = next(p for p in (settings.home, *settings.home.parents) if p.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:.1f} GB free at {place}"
    if free < LOW_DISK_BYTES:
        yield Finding("disk", "odd", text, "free some space, or set HM_HOME to a larger disk")
    else:
        yield Finding("disk", "ok", text)


def check_engine(settings: Settings) -> Iterator[Finding]:
    from sandbox.engine import Engine

    engine = Engine.connect(settings)
    try:
        info = engine.info()
    finally:
        engine.close()
    kind = "rootless " if info.rootless else ""
    text = f"{kind}{info.name} {info.version}, API {info.api_version}, cgroup v{info.cgroup}"
    yield Finding("engine", "ok", f"{text}, runtimes: {', '.join(info.runtimes) or 'its own'}")
    numbers = info.version.split(".")
    if info.name == "docker" and numbers[0].isdigit() and (int(numbers[0]), int(numbers[1])) < OLDEST_ENGINE:
        yield Finding("engine version", "odd", f"{info.version} is older than 20.10", "upgrade the engine")
    yield from _enforcement(info)


def _enforcement(info: EngineInfo) -> Iterator[Finding]:
    if not info.seccomp:
        yield Finding(
            "seccomp",
            "missing",
            "the engine has no seccomp: our system-call filter cannot apply",
            "use an engine built with seccomp",
        )
    for what in sorted({"memory", "pids", "cpu"} - info.limits):
        yield Finding(
            "limits",
            "missing",
            f"the engine cannot limit {what}",
            f"enable the {what} cgroup controller (kernel command line, or delegation for rootless engines)",
        )
    if "memory" in info.limits and "swap" not in info.limits:
        text = "the engine cannot limit swap; memory stays limited"
        yield Finding("limits", "odd", text, "boot with swapaccount=1, or turn swap off")


def check_builder(settings: Settings) -> Iterator[Finding]:
    if shutil.which("mmdebstrap"):
        yield Finding("base images", "ok", "mmdebstrap is here for when Docker Hub does not answer")
    else:
        yield Finding(
            "base images",
            "odd",
            "mmdebstrap is missing; base images can only be pulled",
            "apt-get install mmdebstrap (./hm up offers to)",
        )


def check_certificates(settings: Settings) -> Iterator[Finding]:
    for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        value = os.environ.get(name)
        if value and not Path(value).is_file():
            yield Finding(
                "certificates", "missing", f"{name} names {value}, which is not a file", f"correct or unset {name}"
            )
        elif value:
            yield Finding("certificates", "ok", f"{name}={value} is used in builds and in no image")


def check_catalog(settings: Settings) -> Iterator[Finding]:
    from gateway.lock import read_lock

    if not settings.lock_file.exists():
        yield Finding("servers", "odd", "no server is built yet", "run: ./hm up")
        return
    servers = read_lock(settings.lock_file)
    enabled = sum(1 for s in servers.values() if s.enabled)
    yield Finding("servers", "ok", f"{len(servers)} locked, {enabled} enabled")


def check_trust(settings: Settings) -> Iterator[Finding]:
    from policies.trust import TrustPolicy

    policy = TrustPolicy.load(settings)
    yield Finding("trust policy", "ok", f"{policy.digest}")


def check_audit(settings: Settings) -> Iterator[Finding]:
    if not settings.audit_dir.exists():
        yield Finding("audit", "ok", "no record yet")
        return
    summary = audit.verify(settings.audit_dir)
    yield Finding("audit", "ok", f"{summary.records} records, chain whole")


def check_gateway(settings: Settings) -> Iterator[Finding]:
    state = read_state(settings.run_dir)
    if state is not None:
        yield Finding("gateway", "ok", f"running at {state.url} since {state.since}")
        return
    with socket.socket(socket.AF_INET6 if ":" in settings.gateway_host else socket.AF_INET) as s:
        s.settimeout(1)
        taken = s.connect_ex((settings.gateway_host, settings.gateway_port)) == 0
    if taken:
        yield Finding(
            "gateway",
            "missing",
            f"port {settings.gateway_port} is taken by another program",
            "stop it, or set HM_GATEWAY_PORT (clients must then be connected again)",
        )
    else:
        yield Finding("gateway", "odd", "not running", "run: ./hm up --detach")


CHECKS: tuple[Check, ...] = (
    check_python,
    check_home,
    check_disk,
    check_engine,
    check_builder,
    check_certificates,
    check_catalog,
    check_trust,
    check_audit,
    check_gateway,
)
