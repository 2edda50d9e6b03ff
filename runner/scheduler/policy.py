"""When to load, which to evict, how long to keep: pure decisions over what is loaded and what is free.

Nothing here measures or waits.  Sizes are bytes, times are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

IDLE_S = 300.0  # Docker's runner unloads after five idle minutes; people expect that here
FOREVER = -1.0  # a negative keep-alive (Docker's and Ollama's meaning)
PATIENCE_S = 2.0  # a request waits this long behind others' use of memory before they must make way: about one load
RESERVE = 256 << 20  # bytes that stay free: the page cache and everyone else need some


@dataclass(frozen=True)
class Loaded:
    key: str  # the model's ID
    name: str
    bytes: int  # measured, or expected while it loads
    active: int  # requests that use it now
    last_used: float
    keep_alive: float = IDLE_S
    pinned: bool = False
    loading: bool = False

    @property
    def may_go(self) -> bool:
        return not (self.active or self.pinned or self.loading)


@dataclass(frozen=True)
class Load:
    pass


@dataclass(frozen=True)
class Evict:
    keys: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Wait:
    why: str


@dataclass(frozen=True)
class Never:
    why: str


Decision = Load | Evict | Wait | Never


def decide(name: str, need: int, available: int, loaded: Sequence[Loaded], *, most: int) -> Decision:
    """May a model that needs ``need`` bytes be loaded while ``available`` are free (those of loaded models are not)?

    ``most``: models at once.  What is loading has been promised its memory, though it does not use it yet.
    """
    promised = sum(m.bytes for m in loaded if m.loading)
    missing = need + RESERVE + promised - available
    surplus = len(loaded) + 1 - most
    if missing <= 0 and surplus <= 0:
        return Load()
    if need + RESERVE > available + sum(m.bytes for m in loaded if not m.pinned):
        pins = [m.name for m in loaded if m.pinned]
        beside = f" beside the pinned {', '.join(pins)}" if pins else ""
        return Never(
            f"{name} needs {_size(need)}, and this machine can free {_size(_freeable(available, loaded))}{beside}"
        )
    chosen: list[Loaded] = []
    freed = 0
    for model in cheapest_first(loaded):
        if freed >= missing and len(chosen) >= surplus:
            break
        chosen.append(model)
        freed += model.bytes
    if freed >= missing and len(chosen) >= surplus:
        return Evict(tuple(m.key for m in chosen), f"{name} needs {_size(need)} and {_size(available)} are free")
    return Wait(_who_is_in_the_way(loaded))


def cheapest_first(loaded: Iterable[Loaded]) -> list[Loaded]:
    """Those that may go: longest unused first, as reloading costs about the same for each byte."""
    return sorted((m for m in loaded if m.may_go), key=lambda m: m.last_used)


def expired(loaded: Iterable[Loaded], now: float) -> list[str]:
    """Keys of what has been idle for longer than it is kept."""
    return [m.key for m in loaded if m.may_go and m.keep_alive >= 0 and now - m.last_used >= m.keep_alive]


def next_expiry(loaded: Iterable[Loaded]) -> float | None:
    """The moment at which the next one expires; None when none will."""
    moments = [m.last_used + m.keep_alive for m in loaded if m.may_go and m.keep_alive >= 0]
    return min(moments, default=None)


def fair_order(waiting: Sequence[tuple[str, float]]) -> list[int]:
    """Indices of ``(client, arrived)`` in turn: the first of each client, then the second of each, oldest first."""
    rounds: dict[str, int] = {}
    keyed = []
    for index, (client, arrived) in sorted(enumerate(waiting), key=lambda item: item[1][1]):
        turn = rounds[client] = rounds.get(client, -1) + 1
        keyed.append((turn, arrived, index))
    return [index for _, _, index in sorted(keyed)]


def _freeable(available: int, loaded: Sequence[Loaded]) -> int:
    return max(available + sum(m.bytes for m in loaded if not m.pinned) - RESERVE, 0)


def _who_is_in_the_way(loaded: Sequence[Loaded]) -> str:
    busy = [f"{m.name} ({m.active} requests)" for m in loaded if m.active]
    pinned = [f"{m.name} (pinned)" for m in loaded if m.pinned and not m.active]
    loading = [f"{m.name} (loading)" for m in loaded if m.loading]
    return "in use: " + ", ".join([*busy, *pinned, *loading])


def _size(value: int) -> str:
    return f"{max(value, 0) / (1 << 20):.0f} MiB"
