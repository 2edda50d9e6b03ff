"""Relays started before their sandbox: the next session of a server that was just used waits for none.

One per server and set of rules, of those used last; a relay idles at a third of a megabyte.  One event loop owns it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from harbourmaster.core.errors import HarbourError
from sandbox.egress.relay import Relay
from sandbox.egress.rules import Rules

log = logging.getLogger("sandbox.egress")

MOST = 8
IDLE_S = 300.0  # as long as an idle sandbox is kept (harbourmaster/core/settings.py, sandbox_idle_s)

Key = tuple[str, Rules]


class Spares:
    """``start`` makes a relay; ``later`` takes work that must be done before the gateway ends."""

    def __init__(
        self,
        start: Callable[[str, Rules], Awaitable[Relay]],
        later: Callable[[Coroutine[Any, Any, None]], None],
        *,
        most: int = MOST,
        idle_s: float = IDLE_S,
    ) -> None:
        self._start, self._later, self._most, self._idle_s = start, later, most, idle_s
        self._ready: dict[Key, tuple[Relay, asyncio.TimerHandle]] = {}  # in the order of making
        self._coming: set[Key] = set()
        self._closed = False

    def take(self, server: str, rules: Rules) -> Relay | None:
        """A spare that still lives, if there is one; it is the caller's now."""
        relay, timer = self._ready.pop((server, rules), (None, None))
        if timer is not None:
            timer.cancel()
        return relay if relay is not None and not relay.outlet.closed else None

    def refill(self, server: str, rules: Rules) -> None:
        """Have one made in the background, in place of the oldest when there are too many."""
        key = (server, rules)
        if self._closed or self._most < 1 or key in self._ready or key in self._coming:
            return
        self._coming.add(key)
        self._later(self._make(key))

    def close(self) -> None:
        self._closed = True
        for key in list(self._ready):
            self._drop(key)

    async def _make(self, key: Key) -> None:
        try:
            relay = await self._start(*key)
        except HarbourError as e:
            log.warning("no spare relay for %s: %s", key[0], e)  # the next start says it to whoever waits
            return
        finally:
            self._coming.discard(key)
        timer = asyncio.get_running_loop().call_later(self._idle_s, self._drop, key)
        self._ready[key] = relay, timer
        relay.outlet.on_gone = lambda: self._drop(key)
        while len(self._ready) > (0 if self._closed else self._most):
            self._drop(next(iter(self._ready)))

    def _drop(self, key: Key) -> None:
        relay, timer = self._ready.pop(key, (None, None))
        if relay is not None and timer is not None:
            timer.cancel()
            self._later(relay.stop())
