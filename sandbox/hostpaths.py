"""Which paths of the host a server may be given.  The deny list wins over entries; a person may name one path, for one server.

What would hand over the host, the engine or this installation is given to nobody, whoever asks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox.access import HostPath
from sandbox.errors import HostPathDenied, HostPathMoved

# The whole host, its kernel's files, the engines' own state and sockets
NEVER = ("/", "/boot", "/dev", "/proc", "/run", "/sys", "/var/lib/containerd", "/var/lib/containers", "/var/lib/docker",
         "/var/run")  # fmt: skip
# The system's configuration, programs, logs and mail; other people's files
DENIED = ("/bin", "/etc", "/lib", "/lib64", "/opt", "/root", "/sbin", "/usr", "/var")
# Folders of everybody's homes: what lies in one of them is that person's to give
HOMES = ("/Users", "/export/home", "/home", "/var/home")
# Below anybody's home: keys, tokens, and programs' own settings, which hold both
DENIED_NAMES = frozenset({
    ".aws", ".azure", ".bash_history", ".cargo", ".config", ".docker", ".git-credentials", ".gitconfig", ".gnupg",
    ".harbourmaster", ".kube", ".local", ".m2", ".mozilla", ".netrc", ".npmrc", ".pgpass", ".pki", ".pypirc", ".ssh",
    ".thunderbird", ".vault-token", "docker.sock", "podman.sock", "containerd.sock",
})  # fmt: skip
SOCKETS_LOOKED_FOR = 1000  # entries of a folder; a folder of sockets has few
FOLDERS_LOOKED_INTO = 200  # of those below: agents and desktops keep their sockets in folders of /tmp


@dataclass(frozen=True)
class Checked:
    """What lay at ``path`` when it was checked: device and inode."""

    path: HostPath
    device: int
    inode: int


def canonical(path: str) -> str:
    """Without links.  Raises ``HostPathDenied`` where nothing is there."""
    try:
        return os.path.realpath(path, strict=True)
    except OSError as e:
        raise HostPathDenied(f"{path} cannot be given to a server: {e.strerror}", remedy="name what exists") from e


def exists(path: str) -> bool:
    return os.path.lexists(path)


def check(path: HostPath, *, home: Path, named: bool) -> Checked:
    """``home``: HM_HOME; ``named``: a person named this path for this server.  Raises ``HostPathDenied``, or
    ``HostPathMoved`` where it is no longer the path that was agreed to."""
    real = canonical(path.host)
    if real != path.host:
        raise HostPathMoved(
            f"{path.host} is a link to {real} now", remedy="look at it, and allow the path that is meant"
        )
    try:
        found = os.lstat(real)
        never, denied = _never(real, found.st_mode, home), _denied(real)
    except OSError as e:
        raise HostPathDenied(f"{real} cannot be looked into: {e.strerror}", remedy="give it a folder of yours") from e
    if never:
        raise HostPathDenied(f"{real} {never}; no server is ever given it", remedy="give it a folder of its own")
    if denied and not named:
        raise HostPathDenied(
            f"{real} {denied}", remedy=f"if it is meant: hm server enable NAME --allow {path.text}", path=real
        )
    return Checked(path, found.st_dev, found.st_ino)


def check_all(paths: Iterable[HostPath], granted: frozenset[str], *, home: Path) -> list[Checked]:
    return [check(path, home=home, named=path.host in granted) for path in paths]


def require_same(checked: Iterable[Checked]) -> None:
    """After the mount: still the same thing at the same path, so that what was checked is what was mounted.
    Raises ``HostPathMoved``."""
    for each in checked:
        try:
            real, found = os.path.realpath(each.path.host, strict=True), os.lstat(each.path.host)
        except OSError:
            real, found = "", None
        if found is None or (real, found.st_dev, found.st_ino) != (each.path.host, each.device, each.inode):
            raise HostPathMoved(
                f"{each.path.host} was exchanged while the sandbox started",
                remedy="see who writes to the folder above it",
            )


def _never(real: str, mode: int, home: Path) -> str:
    own = os.path.realpath(home)
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        return "is neither a folder nor a file"
    if _within(real, own) or _within(own, real):
        return "holds this installation's keys and state"
    if real == "/" or any(_within(real, each) for each in NEVER[1:]) or any(_within(each, real) for each in NEVER):
        return "would hand over the host or its engine"
    return "holds a socket" if stat.S_ISDIR(mode) and _has_socket(real) else ""


def _denied(real: str) -> str:
    if any(_within(real, each) for each in DENIED):
        return "belongs to the system"
    if any(_within(each, real) for each in HOMES):
        return "holds everybody's homes"
    if any(part in DENIED_NAMES for part in Path(real).parts):
        return "holds keys, tokens or settings"
    if Path(real).is_dir() and any(name in DENIED_NAMES for name in os.listdir(real)):
        return "is somebody's home, with keys and settings below it"
    if Path(real).is_dir() and _has_socket_below(real):
        return "holds sockets of other programs"
    return ""


def _has_socket(folder: str) -> bool:
    return _sockets_and_folders(folder)[0]


def _has_socket_below(folder: str) -> bool:
    """In a folder of it, which a bind mount holds too."""
    below = _sockets_and_folders(folder)[1][:FOLDERS_LOOKED_INTO]
    return any(_has_socket(each) for each in below if os.access(each, os.R_OK | os.X_OK))


def _sockets_and_folders(folder: str) -> tuple[bool, list[str]]:
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for _, entry in zip(range(SOCKETS_LOOKED_FOR), entries, strict=False):
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISSOCK(mode):
                return True, folders
            if stat.S_ISDIR(mode):
                folders.append(entry.path)
    return False, folders


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
