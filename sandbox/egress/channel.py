"""One sandbox's way to the broker: a Unix socket that only its relay sees, which is therefore who it is.

The folder above is private to this user; the socket's own folder is what the relay gets as its one bind mount.  Inside
that mount it runs as nobody in particular, so the socket itself is open to all: the way to it is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harbourmaster.core.files import make_private_dir

SOCKET = "s"
BACKLOG = 1024
CONTROL = 0xFFFF  # relay.c
GO_ON = b"K"  # relay.c
STALE_S = 60.0  # a folder this old has had its listener for long, if it ever gets one
GREETING_S = 10.0  # the relay writes its two bytes at once

OnConnection = Callable[[int, socket.socket], None]


class Channel:
    """Listens; hands over each connection with its listener's number; ``ready`` when the relay is."""

    def __init__(self, directory: Path, on_connection: OnConnection, on_gone: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_connection, self._on_gone = on_connection, on_gone
        self._tasks: set[asyncio.Task[None]] = set()
        self._control: socket.socket | None = None
        self.ready: asyncio.Future[None] = self._loop.create_future()
        make_private_dir(directory).chmod(0o700)
        self.directory = directory / secrets.token_hex(8)
        self.directory.mkdir(mode=0o711)
        self.directory.chmod(0o711)  # whatever the umask
        self._listener = _listen(self.directory)
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """No new connections; the relay hears of it and ends.  Idempotent."""
        if self._listener.fileno() < 0:
            return
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        if self._control is not None:
            self._loop.remove_reader(self._control)
            self._control.close()
            self._control = None
        self.ready.cancel()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # none left, or no file descriptors: the relay resets its client
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            task = self._loop.create_task(self._greet(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _greet(self, connection: socket.socket) -> None:
        hello = b""
        try:
            async with asyncio.timeout(GREETING_S):
                while len(hello) < 2 and (more := await self._loop.sock_recv(connection, 2 - len(hello))):
                    hello += more
        except (OSError, asyncio.CancelledError):
            hello = b""
        if len(hello) < 2:
            connection.close()
        elif (number := int.from_bytes(hello, "big")) != CONTROL:
            self._on_connection(number, connection)
        elif self._control is None:
            self._control = connection
            self._loop.add_reader(connection, self._relay_ended)
            if not self.ready.done():
                self.ready.set_result(None)
        else:
            connection.close()

    def _relay_ended(self) -> None:
        control, self._control = self._control, None
        assert control is not None
        self._loop.remove_reader(control)
        control.close()
        self._on_gone()


def remove_stale(directory: Path) -> None:
    """Remove the folders of brokers that a crash ended: nobody listens there any more."""
    for folder in directory.glob("*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > STALE_S and not _is_heard(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_heard(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, _short_path(folder) as path:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


@contextlib.contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """The socket's path by way of the folder's descriptor: a socket address holds 108 bytes (unix(7))."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET}"
    finally:
        os.close(fd)


def _listen(directory: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)
    with _short_path(directory) as path:
        listener.bind(path)
    (directory / SOCKET).chmod(0o666)
    listener.listen(BACKLOG)
    return listener
