"""What a person writes stays text: ``<|im_end|>`` in a message must not become the control token that ends a turn.

Before rendering, each special text inside the messages is replaced by a mark of private-use characters; after it, the
prompt is split at the marks and the special texts are tokenized as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_OPEN, _CLOSE = "\ue0f0", "\ue0f1"  # private use area: no tokenizer and no template gives them a meaning
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


class Literals:
    def __init__(self, special: Iterable[str]) -> None:
        self._special = sorted(special, key=len, reverse=True)
        marks = [_OPEN, _CLOSE]
        self._pattern = re.compile("|".join(re.escape(s) for s in [*self._special, *marks]))

    def protect(self, value: Any, kept: list[str]) -> Any:
        """``value`` with marks in place of special texts in any text within; what was replaced goes to ``kept``."""
        if isinstance(value, str):
            return self._pattern.sub(lambda m: _mark(m.group(), kept), value)
        if isinstance(value, list):
            return [self.protect(v, kept) for v in value]
        if isinstance(value, dict):
            return {k: self.protect(v, kept) for k, v in value.items()}
        return value


def split(prompt: str, kept: list[str]) -> list[tuple[str, bool]]:
    """Parts of ``prompt`` in order, each with whether special texts in it are control tokens."""
    if not kept:
        return [(prompt, True)]
    parts: list[tuple[str, bool]] = []
    end = 0
    for mark in _MARK.finditer(prompt):
        parts.append((prompt[end : mark.start()], True))
        index = int(mark.group(1))
        parts.append((kept[index] if index < len(kept) else mark.group(), False))
        end = mark.end()
    return [(text, special) for text, special in [*parts, (prompt[end:], True)] if text]


def _mark(text: str, kept: list[str]) -> str:
    kept.append(text)
    return f"{_OPEN}{len(kept) - 1}{_CLOSE}"
