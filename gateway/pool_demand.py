"""How many spare sandboxes of which kind are worth their memory: from recent use, within one budget.  Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

BURST_S: Final = 10.0  # uses within this long count as one burst: about the time in which spares are made anew
ASSUMED_MB: Final = (
    96.0  # of a server not yet measured: "Node and Python servers idle at 40-120 MB" (the profile's reason)
)

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Demand:
    """The uses of one kind of sandbox; times are the event loop's."""

    last: float = -math.inf
    failures: int = 0
    barred_until: float = -math.inf
    _bursts: dict[int, int] = field(default_factory=dict)

    def used(self, now: float) -> None:
        self.last = now
        burst = int(now // BURST_S)
        self._bursts[burst] = self._bursts.get(burst, 0) + 1

    def expected(self, now: float) -> None:
        """A client is here that used this kind before."""
        self.last = max(self.last, now)

    def failed(self, now: float) -> None:
        """A spare could not be made, or died waiting: the next try waits twice as long."""
        self.failures += 1
        self.barred_until = now + BURST_S * 2 ** min(self.failures, 6)

    def wanted(self, now: float, idle_s: float, most: int) -> int:
        """As many as the largest recent burst used; none after ``idle_s`` without use."""
        oldest = (now - idle_s) // BURST_S
        for burst in [b for b in self._bursts if b < oldest]:
            del self._bursts[burst]
        if now - self.last >= idle_s or now < self.barred_until:
            return 0
        return min(most, max(self._bursts.values(), default=1))


@dataclass(frozen=True, slots=True)
class Want(Generic[Key]):
    """``count`` spares of ``key``, each of ``mb``; ``last``: when it was used last."""

    key: Key
    count: int
    last: float
    mb: float


def share_out(wants: Sequence[Want[Key]], budget_mb: float, places: int) -> dict[Key, int]:
    """How many of each fit: first one of each kind, latest used first, then a second of each, and so on."""
    given: dict[Key, int] = {}
    ordered = sorted((w for w in wants if w.count > 0), key=lambda w: w.last, reverse=True)
    for layer in range(max((w.count for w in ordered), default=0)):
        for want in ordered:
            if want.count > layer and places > 0 and want.mb <= budget_mb:
                given[want.key] = given.get(want.key, 0) + 1
                budget_mb -= want.mb
                places -= 1
    return given


class Footprints:
    """What one sandbox of a server occupies, in MB: as measured last, else assumed."""

    def __init__(self) -> None:
        self._mb: dict[str, float] = {}

    def of(self, server: str) -> float:
        return self._mb.get(server, ASSUMED_MB)

    def known(self, server: str) -> bool:
        return server in self._mb

    def measured(self, server: str, mb: float) -> None:
        self._mb[server] = max(mb, 1.0)

    def total(self, held: Mapping[str, int]) -> float:
        return sum(self.of(server) * count for server, count in held.items())
