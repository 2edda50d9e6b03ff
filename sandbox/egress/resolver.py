"""Names to addresses, by the host's own resolver in a thread, kept for a short while."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sandbox.egress.errors import ResolveFailed

KEEP_S = 30.0  # getaddrinfo tells no time to live; most public ones are 60 s or more
MAX_ADDRESSES = 8  # tried at most: a name may have hundreds
MAX_NAMES = 1024

Look = Callable[[str, int], Awaitable[list["Place"]]]


@dataclass(frozen=True)
class Place:
    """Where to connect: what is checked is what is connected to, with no second look-up between."""

    family: int
    address: str
    port: int


class Resolver:
    """``await Resolver()(host, port)``: at most ``MAX_ADDRESSES`` places.  Raises ``ResolveFailed``."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], tuple[float, list[Place]]] = {}

    async def __call__(self, host: str, port: int) -> list[Place]:
        loop = asyncio.get_running_loop()
        kept = self._kept.get((host, port))
        if kept is not None and loop.time() < kept[0]:
            return kept[1]
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as e:
            raise ResolveFailed(f"{host} cannot be resolved: {e}", remedy="check the name in the entry") from e
        places = [Place(family, str(address[0]), int(address[1])) for family, _, _, _, address in found][:MAX_ADDRESSES]
        if len(self._kept) >= MAX_NAMES:
            self._kept.clear()
        self._kept[host, port] = loop.time() + KEEP_S, places
        return places
