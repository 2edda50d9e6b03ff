"""Finished sequences outside the model's memory: copies of their cells, until a prompt starts like one of them.

Attention looks at every used cell for every token, whosever it is: on two threads a thousand idle cells made SmolLM2 4 %
slower.  Copying a sequence out and in again takes a thousandth of the time that computing it does.  Pure bookkeeping.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from runner.engine.model import Tokens
from runner.engine.pool import common_prefix

State = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Kept:
    tokens: Tokens = field(repr=False)
    state: State = field(repr=False)  # what ``llama_state_seq_get_data`` wrote


class Shelf:
    def __init__(self, most: int) -> None:
        """``most``: tokens of all sequences together."""
        self._most = most
        self._kept: list[Kept] = []  # the longest unused first

    @property
    def tokens(self) -> int:
        return sum(len(k.tokens) for k in self._kept)

    @property
    def bytes(self) -> int:
        return sum(k.state.nbytes + k.tokens.nbytes for k in self._kept)

    def fits(self, count: int) -> bool:
        return count <= self._most

    def put(self, new: Kept) -> None:
        """Beside it stays nothing that it begins with, and of the others the latest that there is room for."""
        size = len(new.tokens)
        if not self.fits(size):
            return
        self._kept = [k for k in self._kept if common_prefix(k.tokens, new.tokens) < len(k.tokens)]
        while self._kept and self.tokens + size > self._most:
            del self._kept[0]
        self._kept.append(new)

    def match(self, prompt: Tokens) -> tuple[Kept | None, int]:
        """The sequence with the longest common start, and its length (always short of the whole prompt)."""
        best, longest = None, 0
        for kept in self._kept:
            common = min(common_prefix(kept.tokens, prompt), len(prompt) - 1)
            if common > longest:
                best, longest = kept, common
        return best, longest

    def take(self, kept: Kept, common: int) -> None:
        """``common`` tokens of it are in the model's memory again; what it has beyond may still be asked for."""
        self._kept = [k for k in self._kept if k is not kept]
        if common < len(kept.tokens):
            self._kept.append(kept)
