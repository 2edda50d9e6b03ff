"""Heads of requests that came before, byte for byte: what the parser read in them, and what the edge made of that, is kept.

A client sends the same head again and again; reading it anew would cost more than the rest of a warm call's HTTP.  Nothing is
decided from memory: who holds the token, and what they may do, is asked for each request.  A head is kept only once its
request was let in, so that strangers cannot fill the table.
"""

from __future__ import annotations

from typing import Any, Final

END: Final = b"\r\n\r\n"
HEAD: Final = "harbourmaster.head"  # an ASGI extension: the ``Head`` of this request
BODY: Final = "harbourmaster.body"  # and in the scope of one whose head is known: its whole body
MOST: Final = 512  # heads: clients times the lengths of their bodies
MAX_BYTES: Final = 4096  # of one
# With one of these, the bytes alone do not say what the parser does, or the head will not come again.
_APART: Final = frozenset({b"transfer-encoding", b"expect", b"connection", b"upgrade", b"traceparent"})

Scope = dict[str, Any]


class Head:
    """``raw``: the bytes.  ``length``: of the body that follows.  ``said``: what an edge keeps here for itself."""

    __slots__ = ("length", "raw", "said", "scope", "sound")

    def __init__(self, raw: bytes, length: int) -> None:
        self.raw = raw
        self.length = length
        self.scope: Scope = {}
        self.sound = False  # the parser found this head's end, and its body's, where we did
        self.said: Any = None


class Heads:
    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def known(self, raw: bytes, length: int) -> Head | None:
        """The head that these bytes are, if the body is of its length."""
        head = self._known.get(raw)
        return head if head is not None and head.length == length else None

    def keep(self, head: Head, said: Any) -> None:
        """``head``'s request was let in; ``said``: what the edge read in it."""
        if not head.sound or len(head.raw) > MAX_BYTES:
            return
        if len(self._known) >= MOST:
            self._known.clear()
        head.said = said
        self._known[head.raw] = head


def candidate(data: bytes, method: str, version: str, headers: list[tuple[bytes, bytes]]) -> Head | None:
    """The head at the beginning of ``data``, if ``data`` is one whole POST whose head says it all.

    >>> candidate(b"POST / HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\n{}", "POST", "1.1", [(b"content-length", b"2")]).length
    2
    """
    if method != "POST" or version != "1.1":
        return None
    lengths = [value for name, value in headers if name == b"content-length"]
    if len(lengths) != 1 or not lengths[0].isdigit() or not _APART.isdisjoint(name for name, _ in headers):
        return None
    end = data.find(END) + len(END)
    length = len(data) - end
    return Head(data[:end], length) if end >= len(END) and lengths[0] == b"%d" % length else None


HEADS: Final = Heads()  # of all connections: what the parser reads in a head depends on nothing else
