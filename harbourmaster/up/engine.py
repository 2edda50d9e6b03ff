"""Find a container engine; where there is none, install Debian's and start it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from harbourmaster.core.errors import EngineError
from harbourmaster.core.settings import Settings
from harbourmaster.up.errors import EngineDidNotStart, EngineMissing
from harbourmaster.up.host import Host, ask, install_packages
from sandbox.engine import Engine

START_TIMEOUT_S = 60.0
# docker.io is Debian's Docker engine; iptables and ca-certificates are only recommended by it but the bridge needs them.
ENGINE_PACKAGES = ("docker.io", "iptables", "ca-certificates")


def ensure_engine(settings: Settings, *, yes: bool, say: Callable[[str], None]) -> Engine:
    """An engine that answers.  Raises ``EngineMissing``/``InstallRefused``/``EngineDidNotStart``, each with its remedy."""
    try:
        return Engine.connect(settings)
    except EngineError as first:
        if settings.engine_url or os.environ.get("DOCKER_HOST"):
            raise  # a person named an engine: another one would be a surprise
        if first.code == "engine.permission":
            raise
    host = Host.look()
    if not _dockerd():
        install_packages(host, ENGINE_PACKAGES, "no container engine answers here", yes=yes, say=say)
    elif host.prefix is None:
        raise EngineMissing(
            "Docker is installed but its daemon does not answer", remedy="start it: sudo systemctl start docker"
        )
    elif not ask("Docker is installed but its daemon does not run. Start it now?", yes=yes):
        raise EngineMissing("Docker is installed but its daemon does not run", remedy="start it, or run: hm up --yes")
    say("starting the container engine")
    return _start(settings, host)


def _dockerd() -> str | None:
    return shutil.which("dockerd") or shutil.which("dockerd", path="/usr/sbin:/usr/local/sbin")


def _start(settings: Settings, host: Host) -> Engine:
    log = settings.log_dir / "engine.log"
    daemon = None
    if Path("/run/systemd/system").is_dir():
        subprocess.run(
            [*(host.prefix or ()), "systemctl", "start", "docker"], capture_output=True, timeout=START_TIMEOUT_S
        )
    else:
        daemon = _spawn_daemon(host, log)
    return _wait_for_engine(settings, log, daemon)


def _spawn_daemon(host: Host, log: Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    path = (
        os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin"
    )  # dockerd looks for iptables and containerd there
    with log.open("ab") as out:
        # Its own session: it must outlive `hm up`, as a service would.
        return subprocess.Popen(
            [*(host.prefix or ()), _dockerd() or "dockerd"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, "PATH": path},
        )


def _wait_for_engine(settings: Settings, log: Path, daemon: subprocess.Popen[bytes] | None) -> Engine:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return Engine.connect(settings)
        except EngineError as e:
            died = daemon is not None and daemon.poll() is not None
            if died or time.monotonic() > deadline:
                raise EngineDidNotStart(
                    f"the container engine was started but does not answer: {_last_line(log) or e.message}",
                    remedy=f"read {log} (or: journalctl -u docker), mend it, then run hm up again",
                ) from e
        time.sleep(0.2)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][-300:] if lines else ""
