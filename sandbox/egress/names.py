"""The name server that a sandbox sees: it answers names that its rules allow, and no other.  Pure.

RFC 1035 section 4 (messages), RFC 2308 section 2 (no such name, no such data), RFC 6761 section 6.3 (localhost).  The
answers are loopback addresses of the relay's own name space, so nothing of a question ever leaves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from sandbox.egress.rules import canonical_host

SERVER = ("127.0.0.1", 53)  # where every resolver asks when nothing tells it another place (resolv.conf(5))
TTL = 5  # seconds; an address stays as long as its sandbox, so asking again costs nothing that matters

A, AAAA, ANY = 1, 28, 255  # RFC 1035 3.2.2, RFC 3596
IN = 1
NO_ERROR, MALFORMED, NO_NAME, NOT_IMPLEMENTED = 0, 1, 3, 4
HEADER = 12
_QR, _AA, _RD, _RA = 0x8000, 0x0400, 0x0100, 0x0080
_OPCODE = 0x7800
_LOCAL = {A: "127.0.0.1", AAAA: "::1"}


@dataclass(frozen=True)
class Question:
    """``end``: where it ends in the message."""

    name: str
    kind: int
    end: int


def parse(message: bytes) -> Question | None:
    """The one question of a query; None where there is none that can be read."""
    if len(message) < HEADER or int.from_bytes(message[4:6], "big") != 1:
        return None
    labels, at = [], HEADER
    while at < len(message) and (size := message[at]):
        label = message[at + 1 : at + 1 + size]
        if size > 63 or len(label) < size or b"." in label:  # a pointer, cut short, or a name that cannot be written
            return None
        labels.append(label)
        at += 1 + size
    if len(message) < at + 5 or at - HEADER > 254 or int.from_bytes(message[at + 3 : at + 5], "big") != IN:
        return None
    name = b".".join(labels).decode("ascii", "replace")
    return Question(canonical_host(name), int.from_bytes(message[at + 1 : at + 3], "big"), at + 5)


def answer(message: bytes, address_of: Callable[[str], str | None]) -> bytes | None:
    """The reply to one datagram; None where it is no query.  ``address_of``: an IPv4 address, None for no such name."""
    if len(message) < HEADER or message[2] & 0x80:
        return None
    if int.from_bytes(message[2:4], "big") & _OPCODE:
        return _reply(message, HEADER, NOT_IMPLEMENTED)
    question = parse(message)
    if question is None:
        return _reply(message, HEADER, MALFORMED)
    local = question.name == "localhost" or question.name.endswith(".localhost")
    address = None if local else address_of(question.name)
    if not local and address is None:
        return _reply(message, question.end, NO_NAME)
    found = [_LOCAL[kind] for kind in (A, AAAA) if question.kind in (kind, ANY)] if local else []
    if address is not None and question.kind in (A, ANY):
        found = [address]
    return _reply(message, question.end, NO_ERROR, found)


def _reply(message: bytes, end: int, code: int, addresses: list[str] | None = None) -> bytes:
    """``addresses`` belong to the question's name; a name without an address of the kind asked for has none."""
    wanted = int.from_bytes(message[2:4], "big") & _RD
    records = b"".join(map(_record, addresses or ()))
    counts = (1 if end > HEADER else 0, len(addresses or ()), 0, 0)
    flags = _QR | _AA | _RA | wanted | code
    head = message[:2] + b"".join(number.to_bytes(2, "big") for number in (flags, *counts))
    return head + message[HEADER:end] + records


def _record(text: str) -> bytes:
    address = ip_address(text)
    kind = A if address.version == 4 else AAAA
    fields = (0xC000 | HEADER, kind, IN)  # the name: as in the question
    data = address.packed
    return b"".join(n.to_bytes(2, "big") for n in fields) + TTL.to_bytes(4, "big") + len(data).to_bytes(2, "big") + data
