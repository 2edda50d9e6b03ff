"""What one engine may hold and compute at once, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    context: int  # tokens in one sequence
    cells: int  # tokens in all
    running: int  # sequences at once
    slots: int  # sequences in memory, finished ones included
    batch: int  # tokens in one decode
    enough: int = 1 << 30  # tokens that keep the device busy: a larger step need not be fuller
    prompts: int = 1 << 30  # tokens of prompts in one decode: a shorter one that comes meanwhile waits no longer
    speculative: int = 0  # tokens in a decode that also holds guesses
    idle: int = 1 << 30  # cells of finished sequences that may stay while others run


@dataclass
class Counters:
    steps: int = 0
    decoded: int = 0
    generated: int = 0
    cached: int = 0
    preempted: int = 0
    evicted: int = 0
    parked: int = 0  # sequences copied out of memory
    fetched: int = 0  # and back into it
    no_slot: int = 0
    cancelled: int = 0
    guessed: int = 0  # tokens
    guessed_right: int = 0
    decode_s: float = 0.0
    sample_s: float = 0.0
