from __future__ import annotations

from sandbox.text import STDERR_KEPT, Tail, secret_values, visible


def tail_of(*chunks: bytes) -> Tail:
    tail = Tail()
    for chunk in chunks:
        tail.feed(chunk)
    return tail


def test_terminal_escapes_and_reordering_characters_are_shown_not_obeyed() -> None:
    assert visible("\x1b[2J\a\r\u202e\u2066x\x9b\x7f\n\tok") == "\\x1b[2J\\x07\\x0d\\u202e\\u2066x\\x9b\\x7f\n\tok"


def test_bytes_that_are_not_utf8_are_shown() -> None:
    assert tail_of(b"caf\xc3\xa9 \xff").text() == "café \\xff"


def test_the_tail_keeps_the_last_bytes_and_is_bounded() -> None:
    tail = tail_of(*[b"%07d\n" % n for n in range(100_000)])
    assert len(tail.text()) == STDERR_KEPT
    assert tail.text().endswith("0099999\n")
    assert tail.dropped == 800_000 - STDERR_KEPT


def test_secrets_by_declared_name_and_by_look_are_redacted() -> None:
    env = {"API_KEY": "abcd1234", "PLAIN": "Asia/Tokyo", "DSN_FILE": "hunter22", "CITY": "oslo-secret", "X_TOKEN": "ab"}
    values = secret_values(env.items(), frozenset({"CITY"}))
    text = tail_of(b"abcd1234 Asia/Tokyo hunter22 oslo-secret ab").text(values)
    assert text == "[redacted] Asia/Tokyo [redacted] [redacted] ab"


def test_a_secret_inside_a_longer_one_does_not_leave_a_piece() -> None:
    values = secret_values({"A_KEY": "abcd", "B_KEY": "abcdefgh"}.items(), frozenset())
    assert tail_of(b"abcdefgh").text(values) == "[redacted]"


def test_passwords_in_addresses_are_redacted() -> None:
    assert tail_of(b"postgres://me:pw@db/x").text() == "postgres://[redacted]@db/x"
