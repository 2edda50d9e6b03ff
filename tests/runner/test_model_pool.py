"""Who shares cells with whom, who pays for them, and how a step's tokens are split."""

from __future__ import annotations

import random

import numpy as np
import pytest

from runner.engine.model import Tokens
from runner.engine.pool import SlotPool, common_prefix, shares


def tokens(*numbers: int) -> Tokens:
    return np.array(numbers, np.int32)


def run(pool: SlotPool, prompt: Tokens) -> tuple[int, int, int]:
    """Place a prompt and let it be decoded whole: slot, source, tokens kept."""
    placement = pool.place(prompt)
    assert placement is not None
    slot = pool.slots[placement.slot]
    pool.truncate(slot, placement.kept)
    slot.append(prompt[placement.kept :])
    return placement.slot, placement.source, placement.kept


PREFIX = list(range(100, 140))


def test_a_common_prefix_is_found_wherever_it_ends() -> None:
    assert common_prefix(tokens(1, 2, 3), tokens(1, 2, 4)) == 2
    assert common_prefix(tokens(1, 2), tokens(1, 2, 3)) == 2
    assert common_prefix(tokens(5), tokens(6)) == 0
    assert common_prefix(tokens(), tokens(1)) == 0


def test_a_second_prompt_copies_what_it_shares_with_a_running_one() -> None:
    pool = SlotPool(4)
    first, _, kept = run(pool, tokens(*PREFIX, 1, 2, 3))
    assert kept == 0
    second, source, kept = run(pool, tokens(*PREFIX, 7, 8))
    assert (source, kept) == (first, 40)
    assert second != first
    assert pool.charged == 43 + 2


def test_a_conversation_goes_on_in_its_own_slot() -> None:
    pool = SlotPool(4)
    first, _, _ = run(pool, tokens(*PREFIX))
    pool.release(first)
    assert run(pool, tokens(*PREFIX, 1, 2)) == (first, -1, 40)


def test_the_same_prompt_again_decodes_only_its_last_token() -> None:
    pool = SlotPool(4)
    first, _, _ = run(pool, tokens(*PREFIX))
    pool.release(first)
    assert run(pool, tokens(*PREFIX))[2] == 39


def test_cells_are_paid_for_once_until_the_last_sharer_goes() -> None:
    pool = SlotPool(4)
    a, _, _ = run(pool, tokens(*PREFIX, 1))
    b, _, _ = run(pool, tokens(*PREFIX, 2, 3))
    c, _, _ = run(pool, tokens(*PREFIX[:20], 4))
    assert pool.charged == 41 + 2 + 1
    pool.drop(a)
    assert pool.charged == 42 + 1
    pool.drop(b)
    assert pool.charged == 21
    pool.drop(c)
    assert pool.charged == 0


def test_the_oldest_idle_slot_makes_way() -> None:
    pool = SlotPool(2)
    a, _, _ = run(pool, tokens(*PREFIX))
    pool.release(a)
    b, _, _ = run(pool, tokens(*range(200, 240)))
    pool.release(b)
    placement = pool.place(tokens(*range(300, 340)))
    assert placement is not None
    assert placement.evicted == (a,)


def test_no_slot_is_given_while_all_are_busy() -> None:
    pool = SlotPool(1)
    run(pool, tokens(*PREFIX))
    assert pool.place(tokens(1, 2, 3)) is None


def test_a_memory_that_cannot_share_starts_from_nothing() -> None:
    pool = SlotPool(2, shares=False)
    a, _, _ = run(pool, tokens(*PREFIX))
    pool.release(a)
    assert run(pool, tokens(*PREFIX, 1))[2] == 0


@pytest.mark.parametrize("seed", range(5))
def test_charges_always_equal_the_cells_that_are_really_used(seed: int) -> None:
    """Against a model of the memory: a cell is a set of owners."""
    chance = random.Random(seed)
    pool, cells = SlotPool(6), {}
    serial = 0

    def forget(slot: int, start: int) -> None:
        for key in [k for k, owners in cells.items() if slot in owners and k[1] >= start]:
            cells[key].discard(slot)
            if not cells[key]:
                del cells[key]

    for _ in range(300):
        busy = [s.id for s in pool.slots if s.busy]
        if busy and chance.random() < 0.5:
            slot = chance.choice(busy)
            if chance.random() < 0.3:
                forget(slot, 0)
                pool.drop(slot)
            else:
                pool.release(slot)
            continue
        prompt = tokens(*PREFIX[: chance.randint(10, 40)], *(chance.randint(0, 3) for _ in range(chance.randint(1, 9))))
        placement = pool.place(prompt)
        if placement is None:
            continue
        for evicted in placement.evicted:
            forget(evicted, 0)
        if placement.source >= 0:
            forget(placement.slot, 0)
            for (_, position), owners in cells.items():
                if placement.source in owners and position < placement.kept:
                    owners.add(placement.slot)
        else:
            forget(placement.slot, placement.kept)
        slot = pool.slots[placement.slot]
        pool.truncate(slot, placement.kept)
        for position in range(placement.kept, len(prompt)):
            serial += 1
            cells[(serial, position)] = {placement.slot}
        slot.append(prompt[placement.kept :])
        assert pool.charged == len(cells)


def test_sentences_go_on_and_the_shortest_prompt_is_served_first() -> None:
    assert shares([1, 1, 1], 8, 32, 64) == [1, 1, 1]
    assert shares([1, 500, 100, 90], 300, 32, 500) == [1, 109, 100, 90]
    assert shares([5, 1, 1], 2, 32, 64) == [0, 1, 1]
    assert sum(shares([300, 40, 7, 1], 128, 32, 64)) <= 128
    assert shares([], 128, 32, 64) == []


def test_the_oldest_prompt_comes_to_its_end_whatever_comes_after_it() -> None:
    assert shares([500, 40, 41], 64, 32, 64) == [32, 32, 0]
    assert shares([500, 500], 64, 32, 64) == [64, 0]


def test_a_step_that_keeps_the_device_busy_ends_where_a_prompt_ends() -> None:
    assert shares([300, 300, 300], 512, 32, 64) == [300, 0, 0]
    assert shares([300, 300, 300], 512, 32, 512) == [300, 212, 0]
    assert shares([40, 40, 40], 512, 32, 64) == [40, 40, 0]
