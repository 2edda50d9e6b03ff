"""Text from strangers, made safe to show and to store: bounded, visible, in one normal form.

Letters of every script stay.  What goes: control characters, characters that reorder text (UAX #9), characters that
nobody sees (zero width, tags U+E0000..E007F, private use), and lone surrogates.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

# Joiners and variation selectors that are part of emoji and of some scripts' spelling: kept between visible characters.
_SPELLING = "\u200c\u200d\ufe0e\ufe0f"
_REORDERING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2028\u2029\u2060-\u2064"
    + _REORDERING
    + "\u206a-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\uffff\ud800-\udfff\ue000-\uf8ff"
    + "\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)
# Keycaps (1, #, *) take a selector too; several after any other ASCII character hide something.
_DANGLING_SPELLING = re.compile(
    f"(?<![^\\s\x00-\x22\x24-\x29\x2b-\x2f\x3a-\x7f])[{_SPELLING}]{{2,}}|(?<!\\S)[{_SPELLING}]+|[{_SPELLING}]{{3,}}"
)
_SPACE = re.compile(r"\s+")
_BLANK_LINES = re.compile(r"\n{4,}")

Note = Callable[[str, str], None]
"""Called with a finding's code and message."""


def one_line(value: object, limit: int, note: Note | None = None) -> str:
    """``value`` as one visible line of at most ``limit`` characters; ``note`` hears of what was taken away."""
    return _bounded(_SPACE.sub(" ", _visible(value, note)).strip(), limit, note)


def many_lines(value: object, limit: int, note: Note | None = None) -> str:
    text = _visible(value, note).replace("\r\n", "\n").replace("\r", "\n")
    return _bounded(_BLANK_LINES.sub("\n\n\n", text).strip(), limit, note)


def hidden_characters(text: str) -> list[str]:
    """The code points in ``text`` that a reader would not see or that would reorder what they see."""
    found = set(_HIDDEN.findall(text)) | set("".join(_DANGLING_SPELLING.findall(text)))
    return sorted(f"U+{ord(c):04X}" for c in found)


def is_visible(text: str) -> bool:
    return not _HIDDEN.search(text) and not _DANGLING_SPELLING.search(text)


def _visible(value: object, note: Note | None) -> str:
    text = value if isinstance(value, str) else "" if value is None else str(value)
    if text.isascii() and text.isprintable():
        return text
    if note and (hidden := hidden_characters(text)):
        note("text.hidden", f"holds characters that nobody sees ({', '.join(hidden[:5])})")
    return unicodedata.normalize("NFC", _DANGLING_SPELLING.sub("", _HIDDEN.sub("", text)))


def _bounded(text: str, limit: int, note: Note | None) -> str:
    if len(text) <= limit:
        return text
    if note:
        note("text.long", f"is {len(text)} characters long; {limit} are kept")
    return text[: limit - 1].rstrip() + "…"
