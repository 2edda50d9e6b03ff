"""The broker of a learning run: every public host is allowed and noted, or answered from a recording.

What the rules of the enforcing broker refuse for good (link-local and metadata addresses) stays refused, private addresses
too unless a person said otherwise, and every connection is in the audit as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h11

from harbourmaster.core.errors import HarbourError
from sandbox.egress.addresses import Reach, reach
from sandbox.egress.broker import Broker, Outlet
from sandbox.egress.channel import GO_ON, Wanted
from sandbox.egress.dial import dial
from sandbox.egress.passage import Passage, Record
from sandbox.egress.rules import Listener, Rule, Rules, is_address, is_name
from sandbox.egress.usage import Usage
from sandbox.learn import http
from sandbox.learn.authority import Authority
from sandbox.learn.recording import Exchange, Raw, Recording

if TYPE_CHECKING:
    from sandbox.egress.resolver import Look

# Where a name is listened for while learning: customary ports of what tool servers talk to (IANA service names)
PORTS = (21, 22, 25, 80, 110, 143, 389, 443, 465, 587, 636, 993, 995, 1433, 1521, 1883, 3000, 3306, 4222, 5000, 5432, 5671,
         5672, 6379, 6443, 7687, 8000, 8080, 8443, 8883, 9000, 9042, 9092, 9200, 11211, 27017)  # fmt: skip
HTTP_PORTS = frozenset({80, 3000, 5000, 8000, 8080, 9200})  # plain; on TLS ports it is what is inside
PATIENCE_S = 10.0  # for a client to shake hands, and for a host to answer
READ = 64 * 1024


@dataclass(frozen=True)
class Learning:
    """``simulate``: answers in the hosts' place; ``record``: ask the hosts, and write down what they say.

    ``open``: any name is allowed; otherwise the rules hold, as in a run that tries a proposal.
    """

    open: bool = True
    private: bool = False
    ports: tuple[int, ...] = PORTS
    simulate: Recording | None = None
    record: bool = False
    authority: Authority | None = None


@dataclass
class Seen:
    """What a run noted.  ``asked``: names; ``problems``: in words, by ``host:port``."""

    asked: set[str] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    http: list[Exchange] = field(default_factory=list)
    raw: list[Raw] = field(default_factory=list)

    @property
    def recording(self) -> Recording:
        return Recording(tuple(self.http), tuple(self.raw))


class LearningBroker(Broker):
    def __init__(self, directory: Path, record: Record, learning: Learning, look: Look | None = None) -> None:
        super().__init__(directory, record, look=look)
        self.learning = learning
        self.seen = Seen()
        self.usage: dict[str, Usage] = {}  # by host:port, of all its sandboxes

    def open(self, server: str, rules: Rules) -> Outlet:
        outlet = LearningOutlet(self, server, rules)
        self.usage = outlet.usage = {**self.usage, **outlet.usage}
        return self.opened(outlet)


class LearningOutlet(Outlet):
    def __init__(self, broker: LearningBroker, server: str, rules: Rules) -> None:
        self.learning, self.seen = broker.learning, broker.seen
        super().__init__(broker, server, rules)

    def address_of(self, name: str) -> str | None:
        if is_name(name):
            self.seen.asked.add(name)
        return super().address_of(name)

    def served_as(self, name: str) -> list[Rule]:
        if not self.learning.open:
            return super().served_as(name)
        ports = self.learning.ports if is_name(name) else ()
        return [Rule(name, port, self.learning.private) for port in ports]

    def record(self, facts: dict[str, Any]) -> None:
        super().record(facts)
        if facts["event"] == "open" and reach_of(facts.get("address")) is Reach.PRIVATE:
            self.seen.private.add(f"{facts['host']}:{facts['port']}")
        if facts["event"] == "refuse" and facts.get("host"):
            self.seen.problems[f"{facts['host']}:{facts.get('port', 0)}"] = str(facts["why"])

    def _passage(self, wanted: Wanted, connection: socket.socket) -> Passage:
        listener = self.listeners[wanted.number]
        if listener.rule is None or not (self.learning.simulate is not None or self.learning.record):
            return super()._passage(wanted, connection)
        return AnsweredPassage(self, listener, connection)


class AnsweredPassage(Passage):
    """One connection whose other end is a recording, or a host that is written down."""

    def __init__(self, outlet: LearningOutlet, listener: Listener, relay: socket.socket) -> None:
        super().__init__(outlet, listener, relay, crowded=False)
        assert listener.rule is not None
        self._seen, self._learning, self._known = outlet.seen, outlet.learning, listener.rule
        self._place = f"{self._host}:{self._port}"
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        usage = self._outlet.usage.setdefault(self._known.text, Usage())
        try:
            self._outlet.record(self._facts("open", "allow", address="recording" if self._learning.simulate else ""))
            usage.connections += 1
            await self._loop.sock_sendall(self._relay, GO_ON)
            await self._serve()
        except (HarbourError, OSError, ssl.SSLError, ValueError, asyncio.IncompleteReadError, h11.ProtocolError) as e:
            self._seen.problems[self._place] = (
                f"{type(e).__name__}: {e}" if not isinstance(e, HarbourError) else e.message
            )
        finally:
            self._let_go()
            with contextlib.suppress(HarbourError):
                self._outlet.record(self._facts("close", "allow", why=self._seen.problems.get(self._place, "")))

    def cut(self, why: str) -> None:
        self._let_go()

    def sweep(self, now: float) -> None:
        """A learning run has an end of its own."""

    def _let_go(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._relay.close()

    async def _serve(self) -> None:
        rule, recording = self._known, self._learning.simulate
        raw = recording.connection(self._host, self._port) if recording else None
        is_http = raw is None and (rule.tls or self._port in HTTP_PORTS)
        reader, writer = await self._accept(is_tls=is_http and rule.tls)
        if is_http:
            _, missing = await http.serve(reader, writer, self._answer)
            if missing:
                self._seen.problems[self._place] = f"{missing} requests are not in the recording"
        elif recording is not None:
            if raw is None:
                self._seen.problems[self._place] = "the recording has no connection to it"
            await _replay(raw, reader, writer)
        else:
            await self._write_down(reader, writer)
        await _finish(reader, writer)

    async def _accept(self, *, is_tls: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The client's connection as streams; with TLS by the throwaway authority."""
        authority = self._learning.authority
        context = authority.context(self._host) if is_tls and authority else None
        got: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = self._loop.create_future()
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(), lambda r, w: got.set_result((r, w)))
        async with asyncio.timeout(PATIENCE_S):
            await self._loop.connect_accepted_socket(lambda: protocol, self._relay, ssl=context)
            reader, self._writer = await got
        return reader, self._writer

    async def _answer(self, request: http.Request) -> Exchange:
        method, target, _, _ = request
        if self._learning.simulate is not None:
            return self._learning.simulate.answer(self._host, self._port, method, target)
        reader, writer = await self._upstream(is_tls=self._known.tls)
        try:
            exchange = await http.ask(reader, writer, self._host, self._port, request)
        finally:
            writer.transport.abort()
        self._seen.http.append(exchange)
        return exchange

    async def _upstream(self, *, is_tls: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        limits = self._outlet.limits
        sock, place = await dial(self._outlet.look, self._known, self._host, self._port, limits.connect_s)
        self._address = place.address
        if not is_tls:
            return await asyncio.open_connection(sock=sock)
        return await asyncio.open_connection(sock=sock, ssl=http.upstream_tls(), server_hostname=self._host)

    async def _write_down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Bytes both ways, in the order in which they came."""
        far_reader, far_writer = await self._upstream(is_tls=False)
        steps: list[tuple[bool, bytes]] = []

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, of_server: bool) -> None:
            while data := await source.read(READ):
                steps.append((of_server, data))
                target.write(data)
                await target.drain()
            if target.can_write_eof():
                target.write_eof()

        try:
            await asyncio.gather(
                pass_on(reader, far_writer, of_server=False), pass_on(far_reader, writer, of_server=True)
            )
        finally:
            far_writer.transport.abort()
            self._seen.raw.append(Raw(self._host, self._port, tuple(steps)))


async def _finish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End our side, and let the client have the answer before the connection goes."""
    async with asyncio.timeout(PATIENCE_S):
        if not writer.can_write_eof():  # TLS ends both ways at once
            writer.close()
            await writer.wait_closed()
            return
        writer.write_eof()
        while await reader.read(READ):
            pass


async def _replay(raw: Raw | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The server's part, each time that the client has said as much as it did then."""
    for of_server, data in raw.steps if raw else ():
        if of_server:
            writer.write(data)
            await writer.drain()
        else:
            await reader.readexactly(len(data))


def reach_of(address: object) -> Reach | None:
    return reach(address) if isinstance(address, str) and is_address(address) else None
