"""The machine: is it Debian-like, may we install, which packages are there.  Thin shell over the system's own tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harbourmaster.up.errors import InstallFailed, InstallRefused

APT_TIMEOUT_S = 900
MMDEBSTRAP = ("mmdebstrap", "debian-archive-keyring", "uidmap")  # uidmap: it needs it where it is not root
ANY_ENGINE = (
    "install a container engine that speaks the Docker API (Docker Engine 20.10 or newer, or Podman 4 with its socket: "
    "systemctl --user enable --now podman.socket), start it, and run hm up again"
)


@dataclass(frozen=True)
class Host:
    debian_like: bool
    prefix: tuple[str, ...] | None  # () as root, ("sudo", "-n") where sudo needs no password, None when we may not

    @classmethod
    def look(cls) -> Host:
        return cls(_debian_like(Path("/etc/os-release")), _privilege())


def _debian_like(os_release: Path) -> bool:
    if not shutil.which("apt-get"):
        return False
    try:
        lines = os_release.read_text().splitlines()
    except OSError:
        return False
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    kinds = f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".replace('"', "").split()
    return bool({"debian", "ubuntu"} & set(kinds))


def _privilege() -> tuple[str, ...] | None:
    if os.geteuid() == 0:
        return ()
    if shutil.which("sudo") and (sys.stdin.isatty() or _sudo_without_password()):
        return ("sudo",)
    return None


def _sudo_without_password() -> bool:
    return subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0


def ask(question: str, *, yes: bool) -> bool:
    """A yes given beforehand, or a person's at the prompt; silence is a no."""
    if yes:
        return True
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def install_packages(
    host: Host, packages: Sequence[str], why: str, *, yes: bool, say: Callable[[str], None], otherwise: str = ANY_ENGINE
) -> None:
    """Install Debian packages after consent; raises ``InstallRefused`` or ``InstallFailed`` with the command to type.

    ``otherwise``: what to do on a system without them.
    """
    command = "apt-get install -y --no-install-recommends " + " ".join(packages)
    if not host.debian_like or host.prefix is None:
        reason = "this is not a Debian-like system" if not host.debian_like else "we are not root and may not sudo"
        raise InstallRefused(
            f"{why}, and {reason}, so nothing was installed", remedy=_by_hand(packages, host, otherwise)
        )
    say(f"{why}: will install the Debian packages {', '.join(packages)}")
    if not ask("Install them now?", yes=yes):
        raise InstallRefused(
            f"{why}, and nobody agreed to install {', '.join(packages)}", remedy=f"run: {command}  (or: hm up --yes)"
        )
    _apt(host, ["update", "-qq"])
    _apt(host, ["install", "-y", "-qq", "--no-install-recommends", *packages])


def _by_hand(packages: Sequence[str], host: Host, otherwise: str) -> str:
    return "as root: apt-get install " + " ".join(packages) if host.debian_like else otherwise


def _apt(host: Host, arguments: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(
        [*(host.prefix or ()), "apt-get", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=APT_TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )
    if result.returncode:
        last = " | ".join((result.stderr or result.stdout).strip().splitlines()[-3:])
        raise InstallFailed(
            f"apt-get {arguments[0]} failed: {last}", remedy="mend apt (network, sources, disk), then run hm up again"
        )
