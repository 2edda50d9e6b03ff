"""From a rule to a connected socket: resolve, check every address, connect to one that was checked."""

from __future__ import annotations

import asyncio
import socket

from sandbox.egress.addresses import Reach, reach
from sandbox.egress.errors import AddressDenied, ConnectFailed, ResolveFailed, TimedOut
from sandbox.egress.resolver import Look, Place
from sandbox.egress.rules import Rule, is_address


async def dial(look: Look, rule: Rule, host: str, port: int, seconds: float) -> tuple[socket.socket, Place]:
    """Raises ``ResolveFailed``, ``AddressDenied``, ``ConnectFailed`` or ``TimedOut``."""
    try:
        async with asyncio.timeout(seconds):
            places = await _places(look, host, port)
            return await _first(allowed(rule, host, places), host, port, seconds)
    except TimeoutError as e:
        raise TimedOut(f"{host}:{port} did not answer within {seconds:g} s", remedy="is it up? try again") from e


async def _places(look: Look, host: str, port: int) -> list[Place]:
    if is_address(host):
        return [Place(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)]
    places = await look(host, port)
    if not places:
        raise ResolveFailed(f"{host} has no address", remedy="check the name in the entry")
    return places


def allowed(rule: Rule, host: str, places: list[Place]) -> list[Place]:
    """Those of ``places`` that may be connected to; raises ``AddressDenied`` when none may."""
    wanted = {Reach.PUBLIC, Reach.PRIVATE} if rule.private else {Reach.PUBLIC}
    fine = [place for place in places if reach(place.address) in wanted]
    if fine:
        return fine
    found = ", ".join(dict.fromkeys(place.address for place in places))
    never = all(reach(place.address) is Reach.NEVER for place in places)
    raise AddressDenied(
        f"{host} resolves to {found}, which is not a public address",
        remedy="no rule can allow this one" if never else f"if that is meant, list {rule.text} under network.private",
        addresses=found,
    )


async def _first(places: list[Place], host: str, port: int, seconds: float) -> tuple[socket.socket, Place]:
    problem = ""
    for place in places:
        try:
            async with asyncio.timeout(seconds / len(places)):  # so that one dead address leaves time for the others
                return await _connect(place), place
        except TimeoutError:
            problem = "no answer"
        except OSError as e:
            problem = e.strerror or str(e)
    raise ConnectFailed(f"{host}:{port} cannot be reached: {problem}", remedy="is it up? try again")


async def _connect(place: Place) -> socket.socket:
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if place.source:
            sock.bind((place.source, 0))
        await asyncio.get_running_loop().sock_connect(sock, (place.address, place.port))
    except BaseException:
        sock.close()
        raise
    return sock
