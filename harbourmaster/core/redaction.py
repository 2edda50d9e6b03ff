"""Known values replaced in text that people or files get to see.  What is in use is fed in when a sandbox starts."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterable, Iterator
from urllib.parse import quote

MASK = "[redacted]"
MIN_SECRET = 4  # characters; shorter values would blank out ordinary words
MIN_IN_JSON = 8  # a shorter one could be a key, or stand in any number
MIN_LINE = 16  # of a value of many lines (a key in PEM), what is worth hiding by itself
MAX_VALUES = 4096  # remembered per process, the newest


def spellings(value: str) -> set[str]:
    """``value`` as it is, as JSON, percent-encoding and base64 write it, and its long lines."""
    if len(value) < MIN_SECRET:
        return set()
    raw = value.encode("utf-8", "surrogateescape")
    found = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], quote(raw, safe="")}
    found |= {base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("=")}
    return found | {line for line in value.splitlines() if len(line) >= MIN_LINE}


def json_spellings(values: Iterable[str]) -> Iterator[str]:
    """How JSON writes each of ``values`` inside a string, so that cutting it out leaves JSON."""
    for value in values:
        raw = value.encode("utf-8", "surrogateescape")
        found = [value, quote(raw, safe=""), base64.b64encode(raw).decode().rstrip("=")]
        found += [base64.urlsafe_b64encode(raw).decode().rstrip("="), *value.splitlines()]
        for text in found:
            if len(text) >= MIN_IN_JSON:
                yield json.dumps(text)[1:-1]
                yield json.dumps(text, ensure_ascii=False)[1:-1]


def longest_first(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(texts), key=lambda text: (-len(text), text)))


def without_cut_ends(text: str, secrets: Iterable[str], *, head: bool, tail: bool) -> str:
    """``text`` whose first or last characters were cut off somewhere: without the piece of a secret left at that end."""
    for value in secrets:
        lengths = range(len(value) - 1, MIN_SECRET - 1, -1)
        if head and (cut := next((n for n in lengths if text.startswith(value[-n:])), 0)):
            text = MASK + text[cut:]
        if tail and (cut := next((n for n in lengths if text.endswith(value[:n])), 0)):
            text = text[:-cut] + MASK
    return text


class Redactor:
    """Thread-safe.  ``redact`` costs one pass of a compiled expression, and nothing while no secret is in use."""

    def __init__(self) -> None:
        self._values: dict[str, None] = {}
        self._pattern: re.Pattern[str] | None = None
        self.in_json: frozenset[str] = frozenset()  # as JSON writes them; those too short to cut out of it are left out
        self._lock = threading.Lock()

    def add(self, values: Iterable[str]) -> None:
        with self._lock:
            new = {v: None for v in values if v not in self._values}
            if not new:
                return
            self._values |= new
            for old in list(self._values)[: max(0, len(self._values) - MAX_VALUES)]:
                del self._values[old]
            texts = longest_first(s for value in self._values for s in spellings(value))
            self._pattern = re.compile("|".join(map(re.escape, texts))) if texts else None
            self.in_json = frozenset(json_spellings(self._values))

    def redact(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern is not None else text


IN_USE = Redactor()  # of this process: what it handed to sandboxes, or was told by a person
