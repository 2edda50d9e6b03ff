"""One connection from a sandbox: who is wanted, may it be, connect, pass bytes, record how it went."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from harbourmaster.core.errors import HarbourError
from sandbox.egress import proxy
from sandbox.egress.channel import GO_ON
from sandbox.egress.clienthello import NotAHello, server_name
from sandbox.egress.dial import dial
from sandbox.egress.errors import (
    EgressDenied,
    HostDenied,
    NameMismatch,
    NotTls,
    RequestMalformed,
    TimedOut,
    TooMuch,
)
from sandbox.egress.flow import Flow
from sandbox.egress.rules import Listener, Rule, is_address

if TYPE_CHECKING:
    from sandbox.egress.broker import Outlet

Record = Callable[[dict[str, Any]], None]
READ = 16 * 1024
OVER_TOTAL = "the sandbox has passed its total of bytes"
MAX_WHY = 1000  # characters: it may quote the client, and a record that is too long is none at all


class Passage:
    def __init__(self, outlet: Outlet, listener: Listener, relay: socket.socket, *, crowded: bool) -> None:
        self._outlet, self._listener, self._relay, self._crowded = outlet, listener, relay, crowded
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._rule: Rule | None = listener.rule
        self._host, self._port = (listener.host, listener.port) if listener.rule else ("", 0)
        self._address = ""
        self._read = b""  # of the client, and not passed on yet
        self._flow: Flow | None = None
        self._ended: asyncio.Future[str] = self._loop.create_future()

    async def run(self) -> None:
        """Never raises but what is a fault of ours; the relay's connection is closed at the end, come what may."""
        try:
            host = await self._admit()
        except (HarbourError, OSError) as e:
            await self._refuse(e)
            return
        except BaseException:
            self._relay.close()
            raise
        await self._pass(host)

    def cut(self, why: str) -> None:
        if self._flow is not None:
            self._flow.cut(why)

    def abandon(self) -> None:
        """Let go of the relay's connection; for a passage that is over, or never began."""
        self._relay.close()

    def sweep(self, now: float) -> None:
        if self._flow is not None and now - self._flow.moved > self._outlet.limits.idle_s:
            self._flow.cut("idle")

    # -- who is wanted

    async def _admit(self) -> socket.socket:
        if self._crowded:
            raise TooMuch(f"more than {self._outlet.limits.connections} connections at once", remedy="close some")
        if self._outlet.total > self._outlet.limits.total_bytes:
            raise TooMuch(OVER_TOTAL, remedy="open a new session")
        if self._rule is None:
            return await self._admit_by_proxy()
        if self._rule.tls:
            await self._check_name()
        host = await self._dial(self._rule)
        await self._tell(GO_ON, host)
        return host

    async def _admit_by_proxy(self) -> socket.socket:
        await self._loop.sock_sendall(self._relay, GO_ON)
        async with self._patience():
            while (split := proxy.split_head(self._read)) is None:
                await self._more()
        request = proxy.parse_request(split[0])
        self._host, self._port = request.host, request.port
        rule = self._rule = self._outlet.rules.find(request.host, request.port)
        if rule is None:
            raise HostDenied(
                f"no rule of {self._outlet.server} names {request.host}:{request.port}",
                remedy="add it to run.network.hosts of its entry, if it should be allowed",
            )
        self._read = request.forward + split[1]
        host = await self._dial(rule)
        if request.tunnel:
            await self._tell(proxy.ESTABLISHED, host)
        if request.tunnel and rule.tls:
            with _closed_on_error(host):
                await self._check_name()
        return host

    async def _tell(self, words: bytes, host: socket.socket) -> None:
        with _closed_on_error(host):
            await self._loop.sock_sendall(self._relay, words)

    async def _check_name(self) -> None:
        """Wait for the ClientHello and compare; a literal address has no name to ask for (RFC 6066 section 3)."""
        async with self._patience():
            name = None
            while name is None:
                try:
                    name = server_name(self._read)
                except NotAHello as e:
                    raise NotTls(
                        f"port {self._port} is for TLS, and this connection to {self._host} does not begin so: {e}",
                        remedy="use another port for what is not TLS",
                    ) from e
                if name is None:
                    await self._more()
        if name != self._host and not (name == "" and is_address(self._host)):
            raise NameMismatch(
                f"a connection to {self._host} asks for the TLS server {name or '(none)'!r}",
                remedy="connect by the name that the rule has",
            )

    async def _more(self) -> None:
        data = await self._loop.sock_recv(self._relay, READ)
        if not data:
            raise RequestMalformed("the client ended before it said whom it wants", remedy="try again")
        self._read += data

    @contextlib.asynccontextmanager
    async def _patience(self) -> AsyncIterator[None]:
        seconds = self._outlet.limits.hello_s
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as e:
            raise TimedOut(f"the client said nothing for {seconds:g} s", remedy="try again") from e

    async def _dial(self, rule: Rule) -> socket.socket:
        limits = self._outlet.limits
        sock, place = await dial(self._outlet.look, rule, self._host, self._port, limits.connect_s)
        self._address = place.address
        return sock

    # -- while it lasts, and after

    async def _pass(self, host: socket.socket) -> None:
        rule = self._rule
        assert rule is not None
        usage = self._outlet.usage[rule.text]
        try:
            self._outlet.record(self._facts("open", "allow", address=self._address))
        except HarbourError:
            host.close()
            self._relay.close()
            return
        usage.connections += 1
        usage.open += 1

        def on_bytes(n: int) -> str:
            usage.moving += n
            return "" if self._outlet.count(n) else OVER_TOTAL

        flow = self._flow = Flow(self._relay, host, on_bytes, self._ended.set_result)
        flow.start(self._read)
        self._read = b""
        try:
            why = await asyncio.shield(self._ended)
        except asyncio.CancelledError:
            flow.cut("the sandbox was stopped")
            why = "the sandbox was stopped"
        usage.open -= 1
        usage.sent += flow.out.count
        usage.received += flow.back.count
        counts = {"sent": flow.out.count, "received": flow.back.count, "why": why}
        with contextlib.suppress(HarbourError):  # it is over; the next one will be refused
            self._outlet.record(self._facts("close", "allow", address=self._address, **counts))

    async def _refuse(self, error: HarbourError | OSError) -> None:
        code = error.code if isinstance(error, HarbourError) else "egress.broken"
        if self._rule is not None:
            self._outlet.usage[self._rule.text].denied += 1
        with contextlib.suppress(HarbourError):
            self._outlet.record(self._facts("refuse", "deny", code=code, why=str(error)[:MAX_WHY]))
        with contextlib.suppress(OSError, TimeoutError):
            await self._explain(error)
        self._relay.close()

    async def _explain(self, error: HarbourError | OSError) -> None:
        """A proxy's client is told in words, unless it waits for TLS already."""
        if self._listener.rule is not None or isinstance(error, NameMismatch | NotTls | TooMuch | OSError):
            return
        status = 400 if isinstance(error, RequestMalformed) else 403 if isinstance(error, EgressDenied) else 502
        answer = proxy.refusal(status, error.code, error.message)
        async with asyncio.timeout(1):
            await self._loop.sock_sendall(self._relay, answer)
            self._relay.shutdown(socket.SHUT_WR)
            while await self._loop.sock_recv(self._relay, READ):  # until the client has read and closed
                pass

    def _facts(self, event: str, verdict: str, **more: Any) -> dict[str, Any]:
        duration = round((self._loop.time() - self._began) * 1000, 3)
        return {
            "event": event,
            "verdict": verdict,
            "host": self._host,
            "port": self._port,
            "rule": self._rule.text if self._rule is not None else "",
            **more,
            "duration_ms": duration,
        }


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
