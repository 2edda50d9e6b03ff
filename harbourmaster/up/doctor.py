"""`hm doctor`: each check is a small function that returns findings; a finding names the thing and its remedy."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harbourmaster.core.errors import EngineError, HarbourError
from harbourmaster.core.settings import Settings
from harbourmaster.up import doctor_home
from harbourmaster.up.findings import Check, Finding
from harbourmaster.up.host import MMDEBSTRAP
from harbourmaster.up.room import LEAST_DISK_BYTES, LOW_DISK_BYTES, LOW_MEMORY_BYTES, disks, engine_root, free_memory

if TYPE_CHECKING:
    from sandbox.engine import EngineInfo

OLDEST_ENGINE = (20, 10)


def examine(settings: Settings) -> list[Finding]:
    found: list[Finding] = []
    for check in CHECKS:
        name = check.__name__.removeprefix("check_")
        try:
            found.extend(check(settings))
        except HarbourError as e:
            found.append(Finding(name, "missing", f"[{e.code}] {e.message}", e.remedy))
        except OSError as e:
            found.append(Finding(name, "missing", str(e), "give this user access, or set HM_HOME to another folder"))
    return found


def check_python(settings: Settings) -> Iterator[Finding]:
    yield Finding("python", "ok", f"Python {platform.python_version()} in {sys.prefix}")


def check_disk(settings: Settings) -> Iterator[Finding]:
    from sandbox.engine import Engine

    try:
        engine = Engine.connect(settings)
        try:
            root = engine_root(engine)
        finally:
            engine.close()
    except EngineError:
        root = ""  # said by the engine's own check
    for disk in disks(settings, root):
        remedy = f"free some space at {disk.place}, or set HM_HOME to a larger disk"
        if disk.free < LEAST_DISK_BYTES:
            yield Finding("disk", "missing", f"full: {disk.text}", remedy)
        elif disk.free < LOW_DISK_BYTES:
            yield Finding("disk", "odd", disk.text, remedy)
        else:
            yield Finding("disk", "ok", disk.text)


def check_memory(settings: Settings) -> Iterator[Finding]:
    free = free_memory()
    text = f"{free / 1e9:.1f} GB free"
    if 0 < free < LOW_MEMORY_BYTES:
        remedy = "end other programs, or bound the sandboxes: pool_memory_mb in config.toml"
        yield Finding("memory", "odd", text, remedy)
    elif free:
        yield Finding("memory", "ok", text)


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
            f"apt-get install {' '.join(MMDEBSTRAP)} (hm up offers to when it needs them)",
        )


def check_certificates(settings: Settings) -> Iterator[Finding]:
    used: dict[str, list[str]] = {}
    for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        value = os.environ.get(name)
        if value and not Path(value).is_file():
            yield Finding(
                "certificates", "missing", f"{name} names {value}, which is not a file", f"correct or unset {name}"
            )
        elif value:
            used.setdefault(value, []).append(name)
    for value, names in used.items():
        yield Finding("certificates", "ok", f"{value} ({', '.join(names)}) is used in builds and is in no image")


CHECKS: tuple[Check, ...] = (
    check_python,
    check_disk,
    check_memory,
    check_engine,
    check_builder,
    check_certificates,
    *doctor_home.CHECKS,
)
