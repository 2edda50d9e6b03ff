"""The server name in a ClientHello, as real clients write it and as hostile ones might."""

from __future__ import annotations

import random
import ssl

import pytest

from sandbox.egress.clienthello import MAX_HELLO, NotAHello, server_name


def hello(name: str | None, **options: ssl.TLSVersion) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    for key, value in options.items():
        setattr(context, key, value)
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def spread(data: bytes, size: int) -> bytes:
    """The same handshake message in records of ``size`` bytes."""
    body = data[5:]
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(data[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_name_is_read_from_either_version(version: ssl.TLSVersion) -> None:
    assert server_name(hello("API.example.com", minimum_version=version)) == "api.example.com"


def test_a_hello_without_a_name_has_none() -> None:
    assert server_name(hello(None)) == ""


def test_every_beginning_of_a_hello_asks_for_more() -> None:
    whole = hello("api.example.com")
    assert [server_name(whole[:n]) for n in range(len(whole))] == [None] * len(whole)


@pytest.mark.parametrize("size", [10, 50, 200])
def test_a_hello_spread_over_records_is_put_together(size: int) -> None:
    assert server_name(spread(hello("api.example.com"), size)) == "api.example.com"


def test_a_hello_in_crumbs_is_refused() -> None:
    with pytest.raises(NotAHello):
        server_name(spread(hello("api.example.com"), 1))


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"\x16\x02\x01\x00\x05", b"\x16\x03\x01\x00\x00", b"\x16\x03\x01\xff\xff", b"SSH-2.0",
             b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", b"\x80\x2e\x01\x03\x01"],
)  # fmt: skip
def test_what_is_not_a_hello_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(NotAHello):
        server_name(data)


def test_two_names_are_refused_whichever_the_server_would_take() -> None:
    name = b"\x00\x00\x0b" + b"api.example"
    listed = len(name).to_bytes(2, "big") + name
    extension = b"\x00\x00" + len(listed).to_bytes(2, "big") + listed
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"

    def packed(extensions: bytes) -> bytes:
        message = body + len(extensions).to_bytes(2, "big") + extensions
        message = b"\x01" + len(message).to_bytes(3, "big") + message
        return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message

    assert server_name(packed(extension)) == "api.example"
    with pytest.raises(NotAHello):
        server_name(packed(extension * 2))


def test_a_hello_that_never_ends_is_refused() -> None:
    endless = b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + bytes(16380)
    with pytest.raises(NotAHello):
        server_name(endless + b"\x16\x03\x01\x40\x00" * 1 + bytes(MAX_HELLO))


def test_no_mutation_of_a_hello_does_more_than_be_refused() -> None:
    whole, dice = hello("api.example.com"), random.Random(7)
    for _ in range(5000):
        mutant = bytearray(whole[: dice.randrange(1, len(whole) + 1)])
        for _ in range(dice.randrange(1, 4)):
            mutant[dice.randrange(len(mutant))] = dice.randrange(256)
        try:
            found = server_name(bytes(mutant))
        except NotAHello:
            continue
        assert found is None or isinstance(found, str)
