"""Prompts that no server has seen: what two of them have in common is what is meant to be."""

from __future__ import annotations

import itertools
import random

Messages = list[dict[str, str]]

_TEXT = """the a this that every ship harbour pilot cargo manifest customs officer container crane tide quay morning
evening weather signal lamp rope anchor engine captain crew log entry paper seal stamp inspection berth channel north
south lists checks carries waits leaves arrives reports signs opens closes moves holds before after under over because
when where which slowly safely twice again never always heavy small large empty open green red blue old new"""
_WORDS = _TEXT.split()
_numbers = itertools.count(1)


def text(words: int) -> str:
    """Begins with a number of its own, so that no two texts share a start."""
    number = next(_numbers)
    chosen = random.Random(number).choices(_WORDS, k=words)
    return f"{number} {' '.join(chosen)}."


def alone(words: int) -> Messages:
    return [{"role": "system", "content": text(4)}, {"role": "user", "content": text(words)}]


def equal(count: int) -> list[Messages]:
    """About 300 tokens each."""
    return [alone(250) for _ in range(count)]


def mixed(count: int) -> list[Messages]:
    """60 to 440 words, 250 on average, not in order of length."""
    lengths = [60 + 380 * i // max(count - 1, 1) for i in range(count)]
    random.Random(count).shuffle(lengths)
    return [alone(length) for length in lengths]


def one_system(count: int) -> list[Messages]:
    """A system prompt of 170 words that all of them have, and 80 words of one's own."""
    return behind(text(170), count)


def behind(system: str, count: int) -> list[Messages]:
    return [[{"role": "system", "content": system}, {"role": "user", "content": text(80)}] for _ in range(count)]
