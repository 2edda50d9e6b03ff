"""Finished sequences beside the memory: which of them stay, and which one a prompt starts like."""

from __future__ import annotations

import numpy as np

from runner.engine.shelf import Kept, Shelf


def kept(*tokens: int) -> Kept:
    return Kept(np.array(tokens, np.int32), np.zeros(1, np.uint8))


def test_the_longest_common_start_is_found_short_of_the_whole_prompt() -> None:
    shelf = Shelf(100)
    one, other = kept(1, 2, 3, 4), kept(1, 2, 9, 9, 9)
    shelf.put(one)
    shelf.put(other)
    assert shelf.match(np.array([1, 2, 3, 4, 5], np.int32)) == (one, 4)
    assert shelf.match(np.array([1, 2, 9, 9], np.int32)) == (other, 3)
    assert shelf.match(np.array([7, 7], np.int32)) == (None, 0)


def test_the_longest_unused_make_room_and_what_is_too_large_stays_out() -> None:
    shelf = Shelf(6)
    shelf.put(kept(1, 1, 1))
    shelf.put(kept(2, 2, 2))
    shelf.put(kept(3, 3, 3))
    assert shelf.tokens == 6
    assert shelf.match(np.array([1, 1, 1, 1], np.int32)) == (None, 0)
    shelf.put(kept(*range(7)))
    assert shelf.match(np.array([*range(8)], np.int32)) == (None, 0)
    assert shelf.tokens == 6
    assert not shelf.fits(7)


def test_a_sequence_that_went_on_replaces_its_beginning() -> None:
    shelf = Shelf(100)
    shelf.put(kept(1, 2, 3))
    shelf.put(kept(1, 2, 3, 4))
    assert shelf.tokens == 4


def test_what_a_prompt_took_whole_is_in_the_memory_again_and_the_rest_may_be_asked_for() -> None:
    shelf = Shelf(100)
    one = kept(1, 2, 3, 4)
    shelf.put(one)
    shelf.take(one, 2)
    assert shelf.tokens == 4
    shelf.take(one, 4)
    assert shelf.tokens == 0
