"""A broker with a resolver that tests steer, sandboxes behind relays, and loopback servers to reach or not to reach."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sandbox.egress.broker import Broker
from sandbox.egress.egress import Egress, Network, network
from sandbox.egress.limits import LIMITS, Limits
from sandbox.egress.resolver import Place
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.sandbox import Exit, Sandbox
from sandbox.spec import SandboxSpec
from tests.fixtures.relay_images import build_client_image, build_relay_image

PATIENCE_S = 30  # only a broken test waits this long


class Names:
    """``names["api.test"] = [answers of the first look-up], [of the second] ...``; the last stays."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[tuple[str, int]]]] = {}
        self.asked: list[str] = []

    def put(self, name: str, *answers: list[tuple[str, int]]) -> None:
        self.answers[name] = list(answers)

    async def look(self, host: str, port: int) -> list[Place]:
        self.asked.append(host)
        answers = self.answers.get(host, [[]])
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [Place(socket.AF_INET6 if ":" in a else socket.AF_INET, a, p) for a, p in found]


@dataclass
class Box:
    """A sandbox that obeys one line at a time, or says lines of its own."""

    net: Network
    lines: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    exits: asyncio.Queue[Exit] = field(default_factory=asyncio.Queue)
    sandbox: Sandbox | None = None

    async def ask(self, line: str) -> str:
        assert self.sandbox is not None
        self.sandbox.write(line.encode() + b"\n")
        return await self.line()

    async def line(self) -> str:
        return (await asyncio.wait_for(self.lines.get(), PATIENCE_S)).decode()

    async def end(self) -> Exit:
        return await asyncio.wait_for(self.exits.get(), PATIENCE_S)

    async def connected(self, host: str, port: int) -> str:
        """The number of a new connection."""
        how, _, number = (await self.ask(f"connect {host} {port}")).partition(" ")
        assert how == "ok", (how, number)
        return number

    @property
    def relay_id(self) -> str:
        assert self.net._relay is not None
        return self.net._relay.id


class World:
    def __init__(self, engine: Engine, profile: Profile, place: Path, limits: Limits = LIMITS, spares: int = 0) -> None:
        self.engine, self.profile, self.place = engine, profile, place
        self.names = Names()
        self.records: list[dict[str, Any]] = []
        self.refuse_records: Exception | None = None
        self.broker = Broker(place / "run" / "egress", self.record, look=self.names.look, limits=limits)
        self.relay_image, self.client_image = build_relay_image(engine), build_client_image(engine)
        self.egress = Egress(engine, profile, self.broker, lambda: self.relay_image, spares=spares)
        self._boxes: list[Box] = []
        self._news = asyncio.Event()

    def record(self, facts: dict[str, Any]) -> None:
        if self.refuse_records is not None:
            raise self.refuse_records
        self.records.append(facts)
        self._news.set()

    async def box(self, *hosts: str, private: bool = True, image: str = "", **spec: Any) -> Box:
        """A sandbox of the client image (or ``image``) with these rules; names in them resolve as ``names`` says."""
        exact = [h for h in hosts if not h.startswith("*.") and private]
        box = Box(await network(self.egress, "test", {"hosts": list(hosts), "private": exact}))
        self._boxes.append(box)
        wanted = SandboxSpec("test", image or self.client_image, **spec)

        def ended(exit_: Exit) -> None:
            box.net.release()
            box.exits.put_nowait(exit_)

        box.sandbox = await Sandbox.start(
            self.engine, self.profile, box.net.join(wanted), on_line=box.lines.put_nowait, on_exit=ended
        )
        box.net.serve(box.sandbox)
        return box

    async def close(self) -> None:
        for box in self._boxes:
            if box.sandbox is not None:
                await box.sandbox.stop(grace_s=0)
            box.net.release()
        await self.egress.close()

    async def recorded(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """The records of ``event`` once they stand for ``count`` connections."""
        async with asyncio.timeout(PATIENCE_S):
            while sum(r.get("count", 1) for r in self._of(event)) < count:
                self._news.clear()
                await self._news.wait()
        return self._of(event)

    def _of(self, event: str) -> list[dict[str, Any]]:
        return [r for r in self.records if r["event"] == event]

    def limited(self, **limits: Any) -> None:
        self.broker.limits = replace(self.broker.limits, **limits)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@contextlib.asynccontextmanager
async def serving(serve: Serve, host: str = "127.0.0.1", **more: Any) -> AsyncIterator[int]:
    """A loopback server; its port."""
    writers: list[asyncio.StreamWriter] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError):
            await serve(reader, writer)
            writer.close()

    server = await asyncio.start_server(one, host, 0, **more)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
