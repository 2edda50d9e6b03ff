"""Which tools a model is told of when it cannot read the descriptions of all.  Pure.

Descriptions are part of every prompt: those of a dozen servers are longer than what a small model can read, and long before
that it finds nothing in them.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from runner.agent.events import Tool

SHARE = 0.5  # of what the model reads that descriptions may take before they are chosen from
CHOSEN_SHARE = 0.25  # and what the chosen ones may take
CLOSE = 0.4  # a tool is offered with at least this part of the best one's score
NAME_WEIGHT = 3.0  # a word in a tool's name says more than one in its description
TOKEN_CHARS = 3.0  # JSON and English in tokens of common vocabularies: 3.3 to 4 characters each
SMALL = 1_000_000_000  # parameters: below it, models seldom begin a call by themselves
_WORD = re.compile(r"[a-z0-9]+")
_STOP = frozenset(
    "a about an and any are as at be by can could do does for from get give have how i in is it its let like me my of on or please"  # noqa: SIM905
    " should so tell that the their them there this to use want was what when where which who will with would you your".split()
)


@dataclass(frozen=True)
class Offer:
    tools: tuple[Tool, ...]
    total: int  # of these many
    tokens: int  # that the descriptions of all need, estimated
    room: int  # tokens that the model reads; 0: not known

    @property
    def chosen(self) -> bool:
        return len(self.tools) < self.total

    def line(self) -> str:
        names = ", ".join(t.name for t in self.tools) or "none"
        return (
            f"{len(self.tools)} of {self.total} tools are offered, those nearest to the task: {names}"
            f" (the descriptions of all need about {self.tokens:,} of the {self.room:,} tokens that the model reads;"
            " --tool chooses)"
        )


def offer(tools: Sequence[Tool], task: str, *, room: int, used: frozenset[str] = frozenset()) -> Offer:
    """All, where their descriptions leave half of the ``room``; else the nearest to ``task``, and those in ``used``."""
    tokens = sum(map(estimate, tools))
    if not room or tokens <= room * SHARE:
        return Offer(tuple(tools), len(tools), tokens, room)
    ranked = rank(tools, task)
    best = ranked[0][0]
    left = room * CHOSEN_SHARE
    names: set[str] = set()
    for score, tool in [*((best, t) for t in tools if t.name in used), *ranked]:
        if tool.name not in names and score >= best * CLOSE and estimate(tool) <= left:
            names.add(tool.name)
            left -= estimate(tool)
    return Offer(tuple(t for t in tools if t.name in names), len(tools), tokens, room)


def named(tools: Sequence[Tool], task: str) -> bool:
    """Does the task use a word of a tool's name?"""
    return bool(words(task) & {w for t in tools for w in words(t.name)})


def rank(tools: Sequence[Tool], task: str) -> list[tuple[float, Tool]]:
    """Best first: the rarer the words that a tool shares with the task, the nearer it is."""
    asked = words(task)
    known = [(words(t.name) | words(t.title), words(t.description), t) for t in tools]
    counts = Counter(w for name, about, _ in known for w in name | about)

    def score(name: frozenset[str], about: frozenset[str]) -> float:
        return sum(
            math.log(1 + len(tools) / counts[w]) * (NAME_WEIGHT if w in name else 1.0) for w in asked & (name | about)
        )

    scored = [(score(name, about), tool) for name, about, tool in known]
    return sorted(scored, key=lambda pair: (-pair[0], estimate(pair[1]), pair[1].name))


def estimate(tool: Tool) -> int:
    """Tokens of a tool's description, rather too many."""
    return math.ceil(len(json.dumps(tool.for_model(), ensure_ascii=False)) / TOKEN_CHARS)


def words(text: str) -> frozenset[str]:
    """Without endings that do not matter and words that say nothing."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower()
    return frozenset(_stem(w) for w in _WORD.findall(spaced) if w not in _STOP and len(w) > 1)


def _stem(word: str) -> str:
    for ending in ("ing", "ies", "es", "s", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)] + ("y" if ending == "ies" else "")
    return word
