"""Marks on answers that may be aimed at the model instead of the person: text nobody sees, instructions in data.  Pure.

A mark is a hint in ``_meta`` for clients and people, not a verdict: words like these occur in honest text too.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from gateway.interceptors.secrets import CHUNK, Hit, hits

META_KEY: Final = "dev.harbourmaster/marks"
HIDDEN: Final = "hidden-text"
INSTRUCTIONS: Final = "instructions"

# Characters that are drawn as nothing and carry text or turn it round; a joiner between emoji and a byte order mark at the
# start are everyday.  Tag characters spell ASCII (Unicode 15, block Tags); flags of regions use them after U+1F3F4.
_HIDDEN: Final = re.compile(
    "[\u202a-\u202e\u2066-\u2069\U000e0100-\U000e01ef]"
    "|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0000-\U000e007f]"
    "|[\u200b\u2060-\u2064\u00ad\u034f\u115f\u1160\u3164\uffa0\u180e]{3,}"
    "|(?:[\u200b\u200c\u200d\u2060\ufeff][^\\W\\d_]?){8,}"
    "|[\ufe00-\ufe0f]{2,}"
)

# Where to look closer, and what must be there.  All lower case.
_PHRASES: Final = (
    ("ignore ", r"ignore (?:all |any |the |your |my )*(?:previous|prior|above|earlier|preceding|other) "
                r"(?:instruction|prompt|direction|rule|context|message)"),
    ("disregard ", r"disregard (?:all |any |the |your |my )*(?:previous|prior|above|earlier|preceding|system) "),
    ("forget ", r"forget (?:all |everything |your |the )+(?:previous |prior |above )?(?:instruction|rule|prompt|you were)"),
    ("<important", r"<important[ >]"),
    ("<system", r"<system(?:[ >-]|_prompt)"),
    ("<|im_", r"<\|im_(?:start|end|sep)\|>"),
    ("<|system", r"<\|system\|>"),
    ("[inst]", r"\[inst\]"),
    ("[system", r"\[system(?:\]|:| message)"),
    ("system prompt", r"system prompt (?:is|has|was|says|update)|(?:reveal|print|show|repeat|leak)[^.]{0,40}system prompt"),
    ("do not tell", r"do not (?:tell|inform|mention (?:this|it) to|alert|notify) (?:the )?(?:user|human|person|anyone)"),
    ("don't tell", r"don't (?:tell|inform|mention (?:this|it) to|alert|notify) (?:the )?(?:user|human|person|anyone)"),
    ("without telling", r"without (?:telling|asking|informing|notifying) (?:the )?(?:user|human)"),
    ("you are now", r"you are now (?:in |a |an |the )?[a-z]+ ?(?:mode|assistant|agent|administrator|developer|dan\b)"),
    ("new instructions", r"new instructions(?: from|:| for)"),
    ("before using any", r"before (?:using|calling) any (?:other )?tool"),
    ("you must first", r"you must first (?:call|read|use|run|send)"),
    ("pass its content", r"pass its contents? (?:as|to|in)"),
)  # fmt: skip
_STARTS: Final = tuple(start for start, _ in _PHRASES)
_LOOK: Final = BytesAhoCorasick([start.encode() for start in _STARTS], MatchKind.LeftmostFirst)
_LONGEST: Final = max(map(len, _STARTS))
_CLOSER: Final = tuple(re.compile(pattern) for _, pattern in _PHRASES)
_AROUND: Final = 200  # characters before and after a start that are looked at
_MOST: Final = 64  # starts looked at in one message


def marks(data: bytes) -> list[str]:
    """The marks that the encoded message ``data`` deserves; usually none, and then it costs one pass."""
    found = []
    if not data.isascii() and _HIDDEN.search(data.decode("utf-8", "replace").lstrip("\ufeff")):
        found.append(HIDDEN)
    lower = data.lower()
    found_starts = _found(lower)
    if found_starts and _instructs(lower, found_starts):
        found.append(INSTRUCTIONS)
    return found


def _found(lower: bytes) -> list[Hit]:
    if len(lower) <= CHUNK:
        return _LOOK.find_matches_as_indexes(lower)[:_MOST]
    return list(islice(hits(_LOOK, lower, _LONGEST), _MOST))


def _instructs(lower: bytes, found: list[Hit]) -> bool:
    return any(
        _CLOSER[pattern].search(lower[max(0, start - _AROUND) : end + _AROUND].decode("utf-8", "replace"))
        for pattern, start, end in found
    )
