"""Names to addresses, by the host's own resolver in a thread, kept for a short while."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from harbourmaster.core.loopback import SANDBOX_SOURCE
from sandbox.egress.errors import ResolveFailed

KEEP_S = 30.0  # getaddrinfo tells no time to live; most public ones are 60 s or more
MAX_ADDRESSES = 8  # tried at most: a name may have hundreds
MAX_NAMES = 1024
THREADS = 16
THIS_MACHINE = {"model-runner.docker.internal": "127.0.0.1"}  # the model runner, as Docker's containers name it
AT_ONCE = 4  # look-ups of one sandbox: a quarter of the threads

Look = Callable[[str, int], Awaitable[list["Place"]]]


@dataclass(frozen=True)
class Place:
    """Where to connect: what is checked is what is connected to, with no second look-up between."""

    family: int
    address: str
    port: int
    source: str = ""  # the own address to connect from; empty: the system's choice


class Resolver:
    """``await Resolver()(host, port)``: at most ``MAX_ADDRESSES`` places.  Raises ``ResolveFailed``."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], tuple[float, list[Place]]] = {}
        # Threads of its own: a slow name must not hold up what else the process does in threads
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> list[Place]:
        loop = asyncio.get_running_loop()
        kept = self._kept.get((host, port))
        if kept is not None and loop.time() < kept[0]:
            return kept[1]
        places = await loop.run_in_executor(self._threads, _places, host, port)
        if len(self._kept) >= MAX_NAMES:
            self._kept.clear()
        self._kept[host, port] = loop.time() + KEEP_S, places
        return places


def _places(host: str, port: int) -> list[Place]:
    if host in THIS_MACHINE:
        return [Place(socket.AF_INET, THIS_MACHINE[host], port, SANDBOX_SOURCE)]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as e:
        raise ResolveFailed(f"{host} cannot be resolved: {e}", remedy="check the name in the entry") from e
    return [Place(family, str(address[0]), int(address[1])) for family, _, _, _, address in found][:MAX_ADDRESSES]


class Turns:
    """A resolver that one sandbox shares with nobody: ``AT_ONCE`` names at a time, however many it asks for.

    A look-up that its asker no longer waits for still takes its turn: the thread is busy either way.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, host: str, port: int) -> list[Place]:
        await self._turns.acquire()
        task = asyncio.ensure_future(self._look(host, port))
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Future[list[Place]]) -> None:
        self._turns.release()
        if not task.cancelled():
            task.exception()  # read, so that nobody is warned of what nobody waited for
