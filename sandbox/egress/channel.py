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
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harbourmaster.core.files import make_private_dir

SOCKET = "s"
BACKLOG = 1024
CONTROL = 0xFFFF  # relay.c
GO_ON = b"K"  # relay.c
HELLO = 8  # relay.c: number, IPv4 address, port
FRAME = 8  # relay.c: size, IPv4 address, port
LISTEN = 0x8000  # relay.c
MAX_DATAGRAM = 1232  # relay.c
QUESTIONS_PER_TURN = 64  # then what else happens has its turn
STALE_S = 60.0  # a folder this old has had its listener for long, if it ever gets one
GREETING_S = 10.0  # the relay writes its words at once


@dataclass(frozen=True)
class Wanted:
    """What the client connected to, inside the sandbox: the listener's ``number``, and the address itself."""

    number: int
    address: str
    port: int


OnConnection = Callable[[Wanted, socket.socket], None]
OnQuestion = Callable[[bytes], bytes | None]  # a DNS query; its answer, None for none


class Channel:
    """Listens; hands over each connection with what it wanted; ``ready`` when the relay is."""

    def __init__(
        self, directory: Path, on_connection: OnConnection, on_question: OnQuestion, on_gone: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_connection, self._on_question, self._on_gone = on_connection, on_question, on_gone
        self._frames = b""
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
            task.add_done_callback(partial(self._greeted, connection))

    async def _greet(self, connection: socket.socket) -> None:
        hello = b""
        try:
            async with asyncio.timeout(GREETING_S):
                while len(hello) < HELLO and (more := await self._loop.sock_recv(connection, HELLO - len(hello))):
                    hello += more
        except (OSError, asyncio.CancelledError):
            hello = b""
        if len(hello) < HELLO:
            connection.close()
        elif (number := int.from_bytes(hello[:2], "big")) != CONTROL:
            address, port = socket.inet_ntoa(hello[2:6]), int.from_bytes(hello[6:], "big")
            self._on_connection(Wanted(number, address, port), connection)
        elif self._control is None:
            self._control = connection
            self._loop.add_reader(connection, self._control_says)
            if not self.ready.done():
                self.ready.set_result(None)
        else:
            connection.close()

    def _greeted(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # before it began, so nobody else closes it
            connection.close()

    def _control_says(self) -> None:
        """Questions for the name server, or the end of the relay."""
        assert self._control is not None
        try:
            data = self._control.recv(QUESTIONS_PER_TURN * 64)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._relay_ended()
            return
        self._frames += data
        while len(self._frames) >= FRAME and self._control is not None:
            end = FRAME + int.from_bytes(self._frames[:2], "big")
            if end > FRAME + MAX_DATAGRAM:
                self._relay_ended()
                return
            if len(self._frames) < end:
                return
            frame, self._frames = self._frames[:end], self._frames[end:]
            self._reply(frame[2:FRAME], frame[FRAME:])

    def listen(self, address: str, port: int) -> None:
        """One more listener, with the next number; it is there before any answer that is given after this."""
        self._tell(LISTEN.to_bytes(2, "big") + socket.inet_aton(address) + port.to_bytes(2, "big"), may_be_lost=False)

    def _reply(self, asker: bytes, question: bytes) -> None:
        answer = self._on_question(question)
        if answer is not None and len(answer) <= MAX_DATAGRAM:
            self._tell(len(answer).to_bytes(2, "big") + asker + answer, may_be_lost=True)

    def _tell(self, frame: bytes, *, may_be_lost: bool) -> None:
        """A relay that is not told something it must know, or only half of it, would take the next frame for another."""
        if self._control is None:
            return
        try:
            sent = self._control.send(frame)
        except (BlockingIOError, InterruptedError):
            sent = len(frame) if may_be_lost else 0
        except OSError:
            sent = 0
        if sent != len(frame):
            self._relay_ended()

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
