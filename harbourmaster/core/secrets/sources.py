"""Values that live elsewhere, read at every start of a sandbox: environment, files, commands.  Read-only."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
from collections.abc import Mapping
from typing import NoReturn

from harbourmaster.core.errors import UsageError
from harbourmaster.core.secrets.errors import SecretSourceFailed
from harbourmaster.core.secrets.model import MAX_VALUE_BYTES, Source, checked_value, without_newline

COMMAND_TIMEOUT_S = 15.0  # password managers answer in one or two seconds when they are unlocked


def read_source(source: Source, environ: Mapping[str, str]) -> str:
    """The value now.  Raises ``SecretSourceFailed``, which names the source and quotes nothing it said."""
    match source.kind:
        case "env":
            raw = environ.get(source.words[0], "").encode("utf-8", "surrogateescape")
        case "file":
            raw = _file(source)
        case "cmd":
            raw = _command(source, environ)
        case _:
            _failed(source, "it is kept by us, not read")
    try:
        return checked_value(without_newline(raw.decode()))
    except (UnicodeDecodeError, UsageError):
        _failed(source, "it is unset, empty, too long or not text")


def _file(source: Source) -> bytes:
    """Docker and Kubernetes mount secrets as files, links and read-only to all, so neither is refused."""
    try:
        fd = os.open(source.words[0], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not hang us
    except OSError as e:
        _failed(source, e.strerror or "it cannot be opened")
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            _failed(source, "it is not a regular file")
        with os.fdopen(fd, "rb", closefd=False) as f:
            return f.read(MAX_VALUE_BYTES + 3)
    finally:
        os.close(fd)


def _command(source: Source, environ: Mapping[str, str]) -> bytes:
    """Its stdout; never a shell.  What it says on stderr is dropped: it may quote the value."""
    try:
        process = subprocess.Popen(
            source.words,
            env={k: v for k, v in environ.items() if not k.startswith("HM_")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as e:
        _failed(source, e.strerror or "it cannot be started")
    with process:
        try:
            out, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _kill(process)
            _failed(source, f"it did not end within {COMMAND_TIMEOUT_S:g} s")
        except BaseException:
            _kill(process)
            raise
    if process.returncode != 0:
        _failed(source, f"it ended with status {process.returncode}; run it by hand to see why")
    return out


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _failed(source: Source, why: str) -> NoReturn:
    raise SecretSourceFailed(
        f"no secret from {source}: {why}", remedy="mend the source, or set the value: hm secret set"
    ) from None
