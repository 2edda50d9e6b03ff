"""Sequences in the key-value memory and what they share.  Pure bookkeeping: it returns what to do, it does not do it.

The memory is one pool of cells.  A finished sequence stays in it until its cells are needed, so that a prompt that
starts like it costs nothing for the common part.  A sequence that shares cells with another is not charged for them;
when the one that pays leaves, the charge passes to the one that shares most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from runner.engine.model import Tokens

MIN_SHARED = 8  # tokens: below it, a copy's bookkeeping costs more than the prefill that it spares


@dataclass(slots=True)
class Slot:
    id: int
    tokens: Tokens = field(default_factory=lambda: np.empty(0, np.int32))  # capacity; ``length`` are in memory
    length: int = 0
    busy: bool = False
    used: int = 0  # a counter, for least-recently-used order
    payer: int = -1  # the slot that is charged for the first ``shared`` cells
    shared: int = 0

    def append(self, more: Tokens) -> None:
        need = self.length + len(more)
        if need > len(self.tokens):
            grown = np.empty(max(need, 2 * len(self.tokens), 256), np.int32)
            grown[: self.length] = self.tokens[: self.length]
            self.tokens = grown
        self.tokens[self.length : need] = more
        self.length = need

    def push(self, token: int) -> None:
        if self.length == len(self.tokens):
            self.append(np.array([token], np.int32))
        else:
            self.tokens[self.length] = token
            self.length += 1

    @property
    def content(self) -> Tokens:
        return self.tokens[: self.length]

    @property
    def charge(self) -> int:
        return self.length - self.shared


@dataclass(frozen=True)
class Placement:
    """Where a prompt goes: ``slot`` after copying ``kept`` cells from ``source`` (-1: it has them), dropping the rest."""

    slot: int
    source: int
    kept: int
    evicted: tuple[int, ...] = ()


class SlotPool:
    def __init__(self, slots: int, *, shares: bool = True) -> None:
        self.slots = [Slot(i) for i in range(slots)]
        self.moved = False  # set when cells may have become idle; for who looks at them
        self._shares = shares
        self._clock = count(1)

    @property
    def charged(self) -> int:
        """Cells in use."""
        return sum(s.charge for s in self.slots)

    @property
    def busy_charge(self) -> int:
        return sum(s.charge for s in self.slots if s.busy)

    @property
    def idle_charge(self) -> int:
        return sum(s.charge for s in self.slots if not s.busy)

    def match(self, prompt: Tokens) -> tuple[Slot | None, int]:
        """The slot with the longest common prefix, and its length (always short of the whole prompt)."""
        best, longest = None, MIN_SHARED - 1
        limit = len(prompt) - 1  # the last token is decoded again: its logits are what we want
        for slot in self.slots if self._shares else ():
            if slot.length > longest:
                common = min(common_prefix(slot.content, prompt), limit)
                if common > longest or (common == longest and best and not slot.busy and best.busy):
                    best, longest = slot, common
        return best, longest if best else 0

    def place(self, prompt: Tokens, whole: Callable[[int], int] = int) -> Placement | None:
        """Take a slot for ``prompt``; None when all are busy.  The caller carries the placement out.

        ``whole`` makes a number of tokens small enough to split nothing that must stay whole (``Prompt.whole``).
        """
        donor, common = self.match(prompt)
        common = whole(common)
        if common < MIN_SHARED:
            donor, common = None, 0
        if donor and not donor.busy and common == donor.length:
            self._claim(donor)
            return Placement(donor.id, -1, common)
        slot, evicted = self._free_slot(donor)
        if slot is None:
            return None
        if slot is donor:
            self.truncate(slot, common)
            self._claim(slot)
            return Placement(slot.id, -1, common)
        self._claim(slot)
        if donor is None:
            return Placement(slot.id, -1, 0, evicted)
        slot.append(donor.tokens[:common])
        slot.payer, slot.shared = donor.id, common
        donor.used = next(self._clock)
        return Placement(slot.id, donor.id, common, evicted)

    def adopt(self, tokens: Tokens) -> Placement | None:
        """An idle sequence comes back into memory with ``tokens``; None when all slots are busy."""
        slot, evicted = self._free_slot(None)
        if slot is None:
            return None
        slot.append(tokens)
        slot.used = next(self._clock)
        self.moved = True
        return Placement(slot.id, -1, len(tokens), evicted)

    def release(self, slot_id: int) -> None:
        """The sequence is done; its cells stay until they are needed."""
        slot = self.slots[slot_id]
        slot.busy, slot.used = False, next(self._clock)
        self.moved = True

    def drop(self, slot_id: int) -> None:
        """The sequence's cells are gone."""
        slot = self.slots[slot_id]
        self._pass_charge(slot, 0)
        slot.length, slot.busy, slot.payer, slot.shared = 0, False, -1, 0

    def truncate(self, slot: Slot, length: int) -> None:
        self._pass_charge(slot, length)
        slot.length, slot.shared = length, min(slot.shared, length)

    def oldest_idle(self) -> Slot | None:
        return min((s for s in self.slots if not s.busy and s.length), key=lambda s: s.used, default=None)

    def _claim(self, slot: Slot) -> None:
        slot.busy, slot.used = True, next(self._clock)

    def _free_slot(self, donor: Slot | None) -> tuple[Slot | None, tuple[int, ...]]:
        empty = next((s for s in self.slots if not s.busy and not s.length), None)
        if empty:
            return empty, ()
        idle = sorted((s for s in self.slots if not s.busy), key=lambda s: (s is donor, s.used))
        if not idle:
            return None, ()
        if idle[0] is donor:
            return donor, ()
        self.drop(idle[0].id)
        return idle[0], (idle[0].id,)

    def _pass_charge(self, payer: Slot, kept: int) -> None:
        """``payer`` is about to keep only ``kept`` cells: who shares more pays for them from now on."""
        self.moved = True
        heirs = [s for s in self.slots if s.payer == payer.id and s is not payer and s.shared > kept]
        heirs.sort(key=lambda s: s.shared, reverse=True)
        for index, heir in enumerate(heirs):
            if index == 0:
                # What payer itself borrowed stays with its own payer.
                heir.payer, heir.shared = payer.payer, min(max(kept, payer.shared), heir.shared)
                if kept > payer.shared:
                    heir.payer = payer.id
            else:
                heir.payer = heirs[0].id
        for slot in self.slots:
            if slot.payer == slot.id:
                slot.payer, slot.shared = -1, 0


def common_prefix(left: Tokens, right: Tokens) -> int:
    size = min(len(left), len(right))
    if size == 0 or left[0] != right[0]:
        return 0
    different = np.flatnonzero(left[:size] != right[:size])
    return int(different[0]) if len(different) else size


def shares(remaining: Iterable[int], budget: int, least: int, enough: int) -> list[int]:
    """Split ``budget`` tokens of a step among sequences that have ``remaining`` tokens to decode, oldest first.

    Those in mid-sentence get their one; the oldest prompt gets ``least``, so that it comes to an end whoever else comes;
    the rest goes to the prompts that need least, who answer soonest.  A step of ``enough`` tokens ends where a prompt
    does: what it took on beyond would only delay that answer.
    """
    wanted = list(remaining)
    given = [0] * len(wanted)
    for i, want in enumerate(wanted):
        if want == 1 and budget:
            given[i], budget = 1, budget - 1
    used, ended = sum(given), False
    prompts = [i for i, want in enumerate(wanted) if want > 1]
    turns = [(i, least) for i in prompts[:1]] + [(i, budget) for i in sorted(prompts, key=lambda i: wanted[i])]
    for i, most in turns:
        if ended and used >= enough:
            break
        more = min(wanted[i] - given[i], most, budget)
        given[i], budget, used = given[i] + more, budget - more, used + more
        ended = ended or (more > 0 and given[i] == wanted[i])
    return given
