"""The egress broker: decides about every connection that a sandbox tries to make, makes it, and counts its bytes.

It fails closed.  What is not covered by a rule, resolves to an address that is not allowed, names another TLS server, or
cannot be written to the audit, is reset; when the broker ends, relays end with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harbourmaster.core.errors import HarbourError
from sandbox.egress import names
from sandbox.egress.channel import Channel, Wanted, remove_stale
from sandbox.egress.errors import HostDenied, TooMuch
from sandbox.egress.limits import LIMITS, Limits
from sandbox.egress.passage import Passage, Record
from sandbox.egress.resolver import Look, Resolver, Turns
from sandbox.egress.rules import FIRST_ADDRESS, Listener, Rule, Rules, is_name
from sandbox.egress.usage import Usage

log = logging.getLogger("sandbox.egress")

MAX_LISTENERS = 2048  # relay.c
MAX_NAME = 253  # characters of a host name, RFC 1035 2.3.4


class Outlet:
    """One sandbox's rules and what it did with them."""

    def __init__(self, broker: Broker, server: str, rules: Rules) -> None:
        self.server, self.rules = server, rules
        self.listeners: list[Listener] = list(rules.listeners())
        self.usage: dict[str, Usage] = {rule.text: Usage() for rule in rules.rules}
        self.sandbox = ""  # its container, once there is one
        self.closed = False
        self.total = 0
        self.limits = broker.limits
        self.look = Turns(broker.look)
        self.passages: dict[asyncio.Task[None], Passage] = {}
        self.on_gone: Callable[[], None] = lambda: None  # called when the relay ends before `close`
        self._broker = broker
        self._starts = float(broker.limits.burst)  # a bucket of connections it may begin now
        self._dropped = 0
        self._questions = float(broker.limits.questions_burst)
        self._addresses = dict(rules.hosts())
        self._unknown: set[str] = set()  # names asked for that no rule allows
        self._unknown_more = self._unanswered = 0
        self.channel = Channel(broker.directory, self._connected, self._asked, self._relay_gone)

    def record(self, facts: dict[str, Any]) -> None:
        """Raises what the audit raises: then nothing may pass."""
        self._broker.record({"kind": "egress", "server": self.server, "sandbox": self.sandbox, **facts})

    def count(self, n: int) -> bool:
        """Whether ``n`` more bytes are within the sandbox's total."""
        self.total += n
        return self.total <= self.limits.total_bytes

    def close(self) -> None:
        """Cut every connection and end the relay.  Idempotent."""
        self.closed = True
        self.channel.close()
        for task, passage in list(self.passages.items()):
            passage.cut("the sandbox was stopped")
            task.cancel()
        self._broker.outlets.discard(self)

    def sweep(self, now: float, seconds: float) -> None:
        limits = self.limits
        self._starts = min(self._starts + limits.starts_per_s * seconds, limits.burst)
        self._questions = min(self._questions + limits.questions_per_s * seconds, limits.questions_burst)
        dropped, self._dropped = self._dropped, 0
        self._refused_together(TooMuch.code, dropped, f"{dropped} connections beyond {limits.starts_per_s:g} a second")
        many, self._unanswered = self._unanswered, 0
        self._refused_together(
            TooMuch.code, many, f"{many} questions for names beyond {limits.questions_per_s:g} a second"
        )
        more, self._unknown_more = self._unknown_more, 0
        self._refused_together(HostDenied.code, more, f"{more} more questions for names that no rule allows")
        for passage in list(self.passages.values()):
            passage.sweep(now)
        for usage in self.usage.values():
            usage.sweep(seconds)

    def _refused_together(self, code: str, count: int, why: str) -> None:
        """What a server does over and over is one record: it must not fill the audit."""
        if count:
            with contextlib.suppress(HarbourError):
                self.record({"event": "refuse", "verdict": "deny", "code": code, "why": why, "count": count})

    def _connected(self, wanted: Wanted, connection: socket.socket) -> None:
        if wanted.number >= len(self.listeners) or self._starts < 1:
            self._dropped += 1
            connection.close()
            return
        self._starts -= 1
        passage = self._passage(wanted, connection)
        task = asyncio.get_running_loop().create_task(passage.run())
        self.passages[task] = passage
        task.add_done_callback(self._passed)

    def _passage(self, wanted: Wanted, connection: socket.socket) -> Passage:
        crowded = len(self.passages) >= self.limits.connections
        return Passage(self, self.listeners[wanted.number], connection, crowded=crowded)

    def _asked(self, question: bytes) -> bytes | None:
        """The answer to a DNS query; none beyond so many a second."""
        if self._questions < 1:
            self._unanswered += 1
            return None
        self._questions -= 1
        return names.answer(question, self.address_of)

    def address_of(self, name: str) -> str | None:
        """The loopback address of a name; None, and a line in the audit, where no rule allows it."""
        if (address := self._addresses.get(name)) is None and (served := self.served_as(name)):
            address = self._serve(name, served)
        if address is None:
            self._not_allowed(name)
        return address

    def served_as(self, name: str) -> list[Rule]:
        """The wildcard rules that cover ``name``, by port, for a client that asks for it by name and not by the proxy."""
        return [rule for rule in self.rules.rules if rule.host.startswith("*.") and rule.covers(name, rule.port)]

    def _serve(self, name: str, rules: list[Rule]) -> str | None:
        """Give a name an address and a listener for each of its rules; None when the sandbox has had its share."""
        if not is_name(name) or len(self.listeners) + len(rules) > MAX_LISTENERS:
            return None
        address = self._addresses[name] = str(FIRST_ADDRESS + len(self._addresses))
        for rule in rules:
            self.usage.setdefault(rule.text, Usage())
            self.listeners.append(Listener(address, rule.port, rule, name))
            self.channel.listen(address, rule.port)
        return address

    def _not_allowed(self, name: str) -> None:
        if name in self._unknown:
            return
        if len(self._unknown) >= self.limits.unknown_names:
            self._unknown_more += 1
            return
        self._unknown.add(name)
        facts = {"host": name[:MAX_NAME], "rule": "", "code": HostDenied.code, "why": "no rule allows this name"}
        with contextlib.suppress(HarbourError):
            self.record({"event": "refuse", "verdict": "deny", **facts})

    def _passed(self, task: asyncio.Task[None]) -> None:
        passage = self.passages.pop(task)
        if task.cancelled():  # perhaps before it began, and then nothing of its own has closed anything
            passage.abandon()
        elif (e := task.exception()) is not None:
            log.error("a connection of %s ended in a fault of ours", self.server, exc_info=e)

    def _relay_gone(self) -> None:
        self.close()
        self.on_gone()


class Broker:
    """``broker = Broker(HM_HOME/run/egress, audit.append)``; ``broker.open("time", rules)``; ``broker.close()``."""

    def __init__(self, directory: Path, record: Record, *, look: Look | None = None, limits: Limits = LIMITS) -> None:
        self.directory, self.record, self.limits = directory, record, limits
        self.look: Look = look or Resolver()
        self.outlets: set[Outlet] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def open(self, server: str, rules: Rules) -> Outlet:
        """Listen for the relay of one sandbox."""
        return self.opened(Outlet(self, server, rules))

    def opened(self, outlet: Outlet) -> Outlet:
        if self._sweeper is None:
            remove_stale(self.directory)
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="egress sweeper")
        self.outlets.add(outlet)
        return outlet

    async def close(self) -> None:
        passing = [task for outlet in self.outlets for task in outlet.passages]
        for outlet in list(self.outlets):
            outlet.close()
        await asyncio.gather(*passing, return_exceptions=True)
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
            self._sweeper = None

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.limits.sweep_s)
            for outlet in list(self.outlets):
                outlet.sweep(loop.time(), self.limits.sweep_s)
