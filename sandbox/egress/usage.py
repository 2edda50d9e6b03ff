"""How much went through each rule: bytes, connections, refusals, and the rate of late."""

from __future__ import annotations

from dataclasses import dataclass

SMOOTHING = 0.5  # of one sweep's rate in the shown one: a few sweeps and it is what is


@dataclass
class Usage:
    """``rate``: bytes a second, both ways, smoothed over a few sweeps."""

    connections: int = 0
    open: int = 0
    denied: int = 0
    sent: int = 0
    received: int = 0
    rate: float = 0.0
    moving: int = 0  # bytes since the last sweep

    def sweep(self, seconds: float) -> None:
        self.rate += SMOOTHING * (self.moving / seconds - self.rate)
        self.moving = 0
