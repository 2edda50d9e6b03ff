"""What a server wrote to stderr, made safe to show."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harbourmaster.core.redaction import MASK, MIN_SECRET, longest_first, spellings, without_cut_ends

STDERR_KEPT = 64 * 1024  # bytes of a server's last words: enough for a traceback, small enough for 64 sandboxes

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|PWD|CREDENTIAL|AUTH|DSN|COOKIE", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
# C0 and C1 controls but newline and tab, and the bidirectional controls that reorder text (Unicode 6.3, UAX 9)
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Tail:
    """The last ``STDERR_KEPT`` bytes of a stream; feeding costs no more than the bytes fed."""

    def __init__(self, limit: int = STDERR_KEPT) -> None:
        self._limit = limit
        self._bytes = bytearray()
        self.dropped = 0

    def feed(self, chunk: bytes) -> None:
        self._bytes += chunk
        if len(self._bytes) > 2 * self._limit:
            self._trim()

    def _trim(self) -> None:
        if (extra := len(self._bytes) - self._limit) > 0:
            self.dropped += extra
            del self._bytes[:extra]

    def text(self, secrets: Iterable[str] = ()) -> str:
        self._trim()
        secrets = tuple(secrets)
        shown = redact(self._bytes.decode("utf-8", "backslashreplace"), secrets)
        return visible(without_cut_ends(shown, secrets, head=self.dropped > 0, tail=True))


def secret_values(
    env: Iterable[tuple[str, str]], declared: frozenset[str], files: Iterable[str] = ()
) -> tuple[str, ...]:
    """What never to show, longest first: values of declared names, of names that look like a secret's, and of files."""
    values = {v for k, v in env if k in declared or _SECRET_NAME.search(k)} | set(files)
    return longest_first(s for value in values if len(value) >= MIN_SECRET for s in spellings(value))


def redact(text: str, secrets: Iterable[str]) -> str:
    for value in secrets:
        text = text.replace(value, MASK)
    return _USERINFO.sub(MASK, text)


def visible(text: str) -> str:
    """Control characters as ``\\x1b`` or ``\\u202e``, so that a terminal or a page shows them and obeys none."""
    return _UNSAFE.sub(lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", text)
