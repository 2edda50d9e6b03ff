"""Bytes of tokens into text: whole characters only, and nothing of a stop string."""

from __future__ import annotations

import codecs


class TextStream:
    """
    >>> s = TextStream(("END",))
    >>> s.push(b"Hi E"), s.push(b"N"), s.push(b"D more"), s.stopped
    ('Hi ', '', '', 'END')
    """

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = stops
        self._held = ""
        self._inside = False  # a character
        self.stopped = ""  # the stop string that was met

    def push(self, data: bytes) -> str:
        """Text that is certain now."""
        text = self._decode(data)
        return self._advance(text) if self._stops else text

    def finish(self) -> str:
        """The rest: what was held back, with a replacement character for half a one."""
        rest = self._advance(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        return rest + ("" if self.stopped else held)

    def _decode(self, data: bytes) -> str:
        if not self._inside:
            try:
                return data.decode()  # nearly every token is whole characters
            except UnicodeDecodeError:
                pass
        text = self._decoder.decode(data)
        self._inside = bool(self._decoder.getstate()[0])
        return text

    def _advance(self, text: str) -> str:
        if self.stopped:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            at, self.stopped = min(found)
            self._held = ""
            return text[:at]
        keep = possible_start(text, self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def possible_start(text: str, stops: tuple[str, ...]) -> int:
    """Length of the longest end of ``text`` that begins a stop string."""
    longest = max(len(s) for s in stops) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(s.startswith(text[-size:]) for s in stops):
            return size
    return 0
