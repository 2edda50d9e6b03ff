"""Where pictures stand in a prompt.  Pure.

A picture is rows of numbers where other places have tokens.  For bookkeeping each row has an ID below zero, drawn from the
picture's digest, so that prompts with the same picture share its cells and others do not.  A picture is never split: some
models see all of its rows at once, and in others (M-RoPE) its rows are not one position apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from runner.engine.model import Tokens

Rows = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Picture:
    rows: Rows = field(repr=False)  # shape (count, width of the model's input)
    ids: Tokens = field(repr=False)
    span: int  # positions that it takes; ``count`` but for M-RoPE
    # M-RoPE only, shape (4, count): a row's position in each section is offset + slope * (position of the picture's start).
    offsets: Positions | None = field(default=None, repr=False)
    slopes: Positions | None = field(default=None, repr=False)
    causal: bool = True  # False: its rows see each other, and have to be computed at once

    @property
    def count(self) -> int:
        return len(self.rows)

    def positions(self, start: int, first: int, count: int) -> Positions:
        """Of ``count`` rows from ``first`` on, when the picture starts at ``start``: shape (sections, count)."""
        if self.offsets is None or self.slopes is None:
            return np.arange(start + first, start + first + count, dtype=np.int32)[None, :]
        return (self.offsets + self.slopes * start)[:, first : first + count]


@dataclass(frozen=True)
class Prompt:
    tokens: Tokens
    pictures: tuple[tuple[int, Picture], ...] = ()  # index of the first row, picture; in order

    def position(self, index: int) -> int:
        """Of the token at ``index`` (no row of a picture but its first)."""
        return index - sum(p.count - p.span for start, p in self.pictures if start + p.count <= index)

    def whole(self, count: int) -> int:
        """The largest number of tokens up to ``count`` that splits no picture."""
        return next((start for start, p in self.pictures if start < count < start + p.count), count)

    def text_after(self, index: int, end: int) -> int:
        """How many tokens come at ``index`` before a picture or ``end`` does."""
        return max(next((start for start, p in self.pictures if start + p.count > index), end) - index, 0)

    def picture_at(self, index: int) -> tuple[int, Picture] | None:
        return next(((s, p) for s, p in self.pictures if s <= index < s + p.count), None)


def join(parts: Iterable[Tokens | Picture]) -> Prompt:
    tokens: list[Tokens] = []
    pictures: list[tuple[int, Picture]] = []
    length = 0
    for part in parts:
        if isinstance(part, Picture):
            pictures.append((length, part))
            part = part.ids
        tokens.append(part)
        length += len(part)
    return Prompt(np.concatenate(tokens) if tokens else np.empty(0, np.int32), tuple(pictures))


def row_ids(digest: bytes, number: int, count: int) -> Tokens:
    """Below zero, the same for the same picture."""
    drawn = hashlib.shake_256(digest + number.to_bytes(4, "little")).digest(4 * count)
    ids: Tokens = np.frombuffer(drawn, np.int32) | np.int32(-(2**31))
    return ids


@dataclass(frozen=True)
class Glance:
    """Rows that a step computes for one sequence."""

    slot: int
    rows: Rows
    positions: Positions
    causal: bool

    @property
    def count(self) -> int:
        return len(self.rows)


def glance(slot: int, prompt: Prompt, done: int, most: int) -> Glance | None:
    """The next rows of a sequence that has come to a picture, at most ``most`` where it may be split; None elsewhere."""
    found = prompt.picture_at(done)
    if found is None or most < 1:
        return None
    start, picture = found
    first = done - start
    count = min(picture.count - first, most) if picture.causal else picture.count
    positions = picture.positions(prompt.position(start), first, count)
    return Glance(slot, picture.rows[first : first + count], positions, picture.causal)


def together(glances: Sequence[Glance]) -> tuple[Rows, Positions, Positions]:
    """One batch of several: rows, positions (by section), and the slot of each row."""
    slots = np.repeat(np.array([g.slot for g in glances], np.int32), [g.count for g in glances])
    return (
        np.ascontiguousarray(np.concatenate([g.rows for g in glances])),
        np.ascontiguousarray(np.concatenate([g.positions for g in glances], axis=1)),
        slots,
    )
