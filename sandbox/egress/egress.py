"""All relays of one gateway: started for a sandbox that has rules, released when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from harbourmaster.core.errors import HarbourError
from sandbox.egress.broker import Broker
from sandbox.egress.errors import RelayFailed
from sandbox.egress.relay import Relay, joined
from sandbox.egress.rules import Rules
from sandbox.egress.spares import MOST, Spares
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec

log = logging.getLogger("sandbox.egress")


class Egress:
    """``image``: the relay's image ID, admitted like any other; blocking, asked for each use.  ``spares``: relays kept
    ready for servers used of late."""

    def __init__(
        self, engine: Engine, profile: Profile, broker: Broker, image: Callable[[], str], *, spares: int = MOST
    ) -> None:
        self._engine, self._profile, self._image = engine, profile, image
        self.broker = broker
        self.spares = Spares(self._new, self.later, most=spares)
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self, server: str, rules: Rules, *, on_gone: Callable[[], None] = lambda: None) -> Relay:
        """Raises what admission raises, ``RelayFailed``, ``StartFailed`` or ``EngineFailed``; then nothing is left."""
        image_id = await asyncio.to_thread(self._image)
        relay = self.spares.take(server, rules)
        if relay is not None and relay.image_id != image_id:
            self.release(relay)
            relay = None
        if relay is None:
            relay = await self._new(server, rules, image_id)
        relay.outlet.on_gone = on_gone
        self.spares.refill(server, rules)
        return relay

    async def _new(self, server: str, rules: Rules, image_id: str = "") -> Relay:
        image_id = image_id or await asyncio.to_thread(self._image)
        return await Relay.start(self._engine, self._profile, self.broker, image_id, server, rules)

    def release(self, relay: Relay) -> None:
        """Cut its connections now, and have it removed."""
        relay.outlet.close()
        self.later(relay.stop())

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` (a coroutine) before ``close`` returns."""
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        self.spares.close()
        await self.broker.close()
        while self._ending:
            await asyncio.wait(set(self._ending))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            if isinstance(e := task.exception(), HarbourError):
                log.warning("a relay is left to the reaper: %s", e)
            elif e is not None:
                log.error("taking a relay down failed", exc_info=e)


class Network:
    """One sandbox's place on the network: none of its own without a relay, or that relay's name space."""

    def __init__(self, egress: Egress | None = None) -> None:
        self._egress = egress
        self._relay: Relay | None = None
        self._box: Sandbox | None = None

    async def open(self, server: str, rules: Rules) -> None:
        assert self._egress is not None
        self._relay = await self._egress.start(server, rules, on_gone=self._relay_gone)

    def join(self, spec: SandboxSpec) -> SandboxSpec:
        return spec if self._relay is None else joined(spec, self._relay)

    def serve(self, box: Sandbox) -> None:
        """The sandbox runs: its connections bear its ID in the audit, and it does not outlive its relay."""
        self._box = box
        if self._relay is not None:
            self._relay.outlet.sandbox = box.id
            if self._relay.outlet.closed:
                self._relay_gone()

    def release(self) -> None:
        """The sandbox has ended, or never began.  Idempotent."""
        relay, self._relay = self._relay, None
        if relay is not None and self._egress is not None:
            self._egress.release(relay)

    def _relay_gone(self) -> None:
        if self._box is not None and self._egress is not None and self._relay is not None:
            log.warning("the relay of %s ended; its sandbox is stopped", self._relay.outlet.server)
            self._egress.later(self._box.stop(grace_s=0))


async def network(egress: Egress | None, server: str, settings: Mapping[str, Any]) -> Network:
    """What ``run.network`` of the lock asks for.  Raises ``RuleInvalid``, and what starting a relay raises."""
    place = Network(egress)
    if rules := Rules.parse(settings):
        if egress is None:
            raise RelayFailed(f"{server} has network rules, but there is no broker here", remedy="start it by: hm up")
        await place.open(server, rules)
    return place
