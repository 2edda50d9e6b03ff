"""Canonical JSON: the quick way writes what RFC 8785's own canonicaliser writes, byte by byte, or leaves it to that."""

from __future__ import annotations

import random
from typing import Any

import pytest
import rfc8785

from harbourmaster.core.canonical import canonical, canonical_digest

KEYS = [
    "a",
    "b",
    "é",
    "\x00",
    "\x7f",
    '"',
    "\\",
    "\u2028",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U00010000",
    "\U0001f600",
    "",
]
TEXTS = [*KEYS, "1.5", ":1.5", "[1e9", ",-1234567890123456789", "v1.2.3", "\b\f\n\r\t\x1f", "/", "<>&'"]
NUMBERS: list[Any] = [0, -1, 15, 2**53 - 1, -(2**53) + 1, 999_999_999_999_999, 1_000_000_000_000_000]
NUMBERS += [0.0, -0.0, 1.0, -2.5, 0.1, 1e20, 1e21, 1.5e300, 1e-6, 1e-7, 123456789.125, 5e-324, 2.0**53]
PLAIN = [None, True, False, *NUMBERS]


def value(rng: random.Random, depth: int) -> Any:
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(PLAIN if rng.random() < 0.3 else TEXTS)
    if rng.random() < 0.5:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(KEYS) + rng.choice(KEYS): value(rng, depth - 1) for _ in range(rng.randrange(5))}


@pytest.mark.parametrize("seed", range(20))
def test_any_value_is_written_as_rfc_8785_has_it(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        each = value(rng, rng.randrange(9))
        assert canonical(each) == rfc8785.dumps(each), each


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_are_spelt_as_ecmascript_spells_them_wherever_they_stand(number: Any) -> None:
    for each in (number, [number], [0, number], {"k": number}, {"k": [[{"k": number}]]}):
        assert canonical(each) == rfc8785.dumps(each)


def test_keys_are_sorted_by_utf_16_and_not_by_code_point() -> None:
    assert canonical({"\uff01": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\uff01":1}'.encode()
    assert canonical({"in": [{"\uff01": 1, "\U0001f600": 2}]}) == '{"in":[{"\U0001f600":2,"\uff01":1}]}'.encode()


def test_what_is_nested_deeper_than_the_quick_way_goes_is_written_all_the_same() -> None:
    deep: Any = 0.5
    for level in range(300):
        deep = [deep] if level % 2 else {"k": deep}
    assert canonical(deep) == rfc8785.dumps(deep)


@pytest.mark.parametrize(
    "refused",
    [2**53, -(2**53), 2**64, 2**200, float("nan"), float("inf"), "\ud800", {"\ud800": 1}, {1: 2}, object(), b"x"],
)
def test_what_json_cannot_hold_is_refused_wherever_it_stands(refused: Any) -> None:
    for each in (refused, [refused], {"k": [1, {"k": refused}]}):
        with pytest.raises(ValueError):
            canonical(each)


def test_a_digest_is_over_the_canonical_bytes() -> None:
    assert canonical_digest({"b": 1.0, "a": "é"}) == canonical_digest({"a": "é", "b": 1})
    assert canonical_digest({"a": 1}) != canonical_digest({"a": 1.5})
