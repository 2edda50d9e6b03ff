"""Reading and writing files that hold secrets: ours alone, or refused."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from harbourmaster.core.files import SECRET_MODE, make_private_dir, write_atomic
from harbourmaster.core.secrets.errors import SecretsDamaged, SecretsExposed

MAX_FILE_BYTES = 32 * 1024 * 1024  # 500 secrets of the largest size


def read_private(path: Path) -> bytes | None:
    """The bytes of ``path``, None where there is none.

    Raises ``SecretsExposed`` when it is a link, another user's, or open to others; ``SecretsDamaged`` when it is no file.
    """
    check_folder(path.parent)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise SecretsExposed(
            f"{path} cannot be used: {e.strerror}", remedy=f"it must be a file of yours: ls -l {path}"
        ) from e
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
            raise SecretsDamaged(f"{path} is no file of secrets", remedy="restore it from your backup")
        _check(path, found, 0o077)
        with os.fdopen(fd, "rb", closefd=False) as f:
            return f.read()
    finally:
        os.close(fd)


def write_private(path: Path, data: bytes) -> None:
    make_private_dir(path.parent)
    check_folder(path.parent)
    write_atomic(path, data, mode=SECRET_MODE)


def check_folder(folder: Path) -> None:
    """Who may write into the folder may put another file in place of ours."""
    with contextlib.suppress(FileNotFoundError):
        _check(folder, folder.stat(), 0o022)


def _check(path: Path, found: os.stat_result, forbidden: int) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        raise SecretsExposed(f"{path} belongs to user {found.st_uid}, not to you", remedy=f"chown it, or remove {path}")
    if mode & forbidden:
        wanted = "600" if forbidden == 0o077 else "700"
        raise SecretsExposed(
            f"{path} is open to other users (mode {mode:03o})",
            remedy=f"run: chmod {wanted} {path}; if others may have read it, rotate what it holds",
            path=str(path),
        )
