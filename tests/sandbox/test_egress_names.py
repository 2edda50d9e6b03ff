"""The name server inside a sandbox: what it answers, and that nothing makes it fail."""

from __future__ import annotations

import random
from ipaddress import ip_address

import pytest

from sandbox.egress import names
from sandbox.egress.names import AAAA, ANY, MALFORMED, NO_ERROR, NO_NAME, NOT_IMPLEMENTED, A

KNOWN = {"api.test": "127.77.1.1", "a-b.c.test": "127.77.1.2"}


def query(name: str, kind: int = A, *, flags: int = 0x0100, questions: int = 1, extra: bytes = b"") -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    head = b"\x12\x34" + flags.to_bytes(2, "big") + questions.to_bytes(2, "big") + bytes(6)
    return head + labels + b"\0" + kind.to_bytes(2, "big") + b"\0\x01" + extra


def told(reply: bytes | None) -> tuple[int, list[str]]:
    """The code, and the addresses."""
    assert reply is not None
    assert reply[:2] == b"\x12\x34"
    assert reply[2] & 0x80
    count, rest, found = int.from_bytes(reply[6:8], "big"), reply, []
    for _ in range(count):
        size = {A: 4, AAAA: 16}
        kind = next(k for k, n in size.items() if rest[-n - 2 : -n] == n.to_bytes(2, "big"))
        found.insert(0, str(ip_address(rest[-size[kind] :])))
        rest = rest[: -size[kind] - 12]
    return reply[3] & 0x0F, found


@pytest.mark.parametrize(
    ("name", "kind", "code", "addresses"),
    [
        ("api.test", A, NO_ERROR, ["127.77.1.1"]),
        ("API.test.", A, NO_ERROR, ["127.77.1.1"]),
        ("a-b.c.test", A, NO_ERROR, ["127.77.1.2"]),
        ("api.test", AAAA, NO_ERROR, []),  # it exists, and has no address of that kind: a resolver stops asking
        ("api.test", ANY, NO_ERROR, ["127.77.1.1"]),
        ("api.test", 16, NO_ERROR, []),
        ("other.test", A, NO_NAME, []),
        ("c2VjcmV0.api.test", A, NO_NAME, []),
        ("test", AAAA, NO_NAME, []),
        ("", A, NO_NAME, []),
        ("localhost", A, NO_ERROR, ["127.0.0.1"]),
        ("localhost", AAAA, NO_ERROR, ["::1"]),
    ],
)
def test_names_of_rules_are_answered_and_no_others(name: str, kind: int, code: int, addresses: list[str]) -> None:
    assert told(names.answer(query(name, kind), KNOWN.get)) == (code, addresses)


def test_a_question_is_handed_back_with_its_answer_and_whatever_follows_it_is_not() -> None:
    reply = names.answer(query("api.test", extra=b"\0\0\x29" + bytes(8)), KNOWN.get)
    assert reply is not None
    asked = query("api.test")
    assert reply[12 : len(asked)] == asked[12:]
    assert len(reply) == len(asked) + 16


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (query("api.test", questions=2), MALFORMED),
        (query("api.test", questions=0), MALFORMED),
        (query("api.test")[:-3], MALFORMED),
        (query("api.test")[:12] + b"\xc0\x0c\0\x01\0\x01", MALFORMED),  # a name that points at itself
        (query("api.test", flags=0x2800), NOT_IMPLEMENTED),  # an update
    ],
)
def test_what_is_no_plain_question_is_refused(message: bytes, code: int) -> None:
    assert told(names.answer(message, KNOWN.get)) == (code, [])


def test_answers_and_fragments_are_not_answered() -> None:
    assert names.answer(query("api.test", flags=0x8180), KNOWN.get) is None
    assert names.answer(b"\x12\x34", KNOWN.get) is None


def test_no_bytes_make_it_fail() -> None:
    dice = random.Random(7)
    for _ in range(20_000):
        message = bytearray(query("api.test"))
        for _ in range(dice.randrange(1, 6)):
            message[dice.randrange(len(message))] = dice.randrange(256)
        reply = names.answer(bytes(message[: dice.randrange(len(message) + 1)]), KNOWN.get)
        assert reply is None or len(reply) < 100
