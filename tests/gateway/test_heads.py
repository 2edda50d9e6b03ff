"""Heads that came before are not read again: what may be known, what may not, and what knowing one never decides."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.edges.exchange import Exchange, QuickProtocol
from gateway.edges.heads import BODY, END, HEAD, HEADS, MAX_BYTES, MOST, Head, Heads, candidate
from gateway.edges.streams import send_body
from gateway.gateway import Gateway
from tests.gateway.harness import Http, rpc, until
from tests.gateway.test_exchange import answer, connected, post


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    HEADS._known.clear()
    yield
    HEADS._known.clear()


class App:
    """Answers with path and body; keeps every head that it may.  ``/early`` is answered before its body is read."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.known: list[bool] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        self.known.append(BODY in scope)
        head = scope["extensions"].get(HEAD)
        if scope["path"] == "/early":
            await send_body(send, 200, b"early")
            return
        body = scope.get(BODY)
        while body is None or not body.endswith(b"."):
            message = await receive()
            assert message["type"] == "http.request"
            body = (body or b"") + message["body"]
        if head is not None and head.said is None:
            HEADS.keep(head, "said")
        await send_body(send, 200, f"{scope['path']} {scope['query_string'].decode()} ".encode() + body)


async def test_a_head_that_came_before_is_answered_without_being_read_again() -> None:
    app = App()
    async with connected(app) as (_, reader, writer):
        for number in range(4):
            writer.write(post("/a?b=c", b"%d." % number))
            assert (await answer(reader))[2] == b"/a b=c %d." % number
        writer.write(post("/a?b=c", b"longer."))
        assert (await answer(reader))[2] == b"/a b=c longer."
    # The first on a connection is read, and so is the second: only then is one learnt.
    assert app.known == [False, False, True, True, False]


async def learnt(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    """The first on a connection is read, the second learnt, the third known."""
    for _ in range(3):
        writer.write(request)
        await answer(reader)


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What connections were given, piece by piece."""
    taken: list[bytes] = []
    received = QuickProtocol.data_received

    def data_received(self: QuickProtocol, data: bytes) -> None:
        received(self, data)
        taken.append(data)

    monkeypatch.setattr(QuickProtocol, "data_received", data_received)
    return taken


async def test_the_rest_of_a_body_that_nobody_read_is_never_a_request(chunks: list[bytes]) -> None:
    app = App()
    known = post("/a", b"1.")
    async with connected(app) as (_, reader, writer):
        await learnt(reader, writer, known)
        assert app.known[-1]
        writer.write(post("/early", b"x" * 1000)[:-900])
        assert (await answer(reader))[2] == b"early"
        writer.write(known)
        await until(lambda: chunks[-1] == known, "the known request")
        writer.write(b"y" * (900 - len(known)) + post("/z", b"2."))
        assert (await answer(reader))[2] == b"/z  2."
    assert app.paths == ["/a", "/a", "/a", "/early", "/z"]


@pytest.mark.parametrize("at", [1, 10, -3, -1])
async def test_a_known_head_that_comes_in_pieces_is_read(at: int, chunks: list[bytes]) -> None:
    app = App()
    known = post("/a", b"1.")
    async with connected(app) as (_, reader, writer):
        await learnt(reader, writer, known)
        writer.write(known[:at])
        await until(lambda: chunks[-1] == known[:at], "the first piece")
        writer.write(known[at:] + post("/b", b"2."))
        assert [(await answer(reader))[2] for _ in range(2)] == [b"/a  1.", b"/b  2."]
    assert app.known == [False, False, True, False, False]


async def test_known_heads_sent_at_once_are_answered_in_their_order() -> None:
    app = App()
    known = post("/a", b"1.")
    async with connected(app) as (_, reader, writer):
        await learnt(reader, writer, known)
        writer.write(known + known + post("/b", b"2."))
        assert [(await answer(reader))[2] for _ in range(3)] == [b"/a  1.", b"/a  1.", b"/b  2."]


@pytest.mark.parametrize(
    "more",
    [
        "connection: keep-alive",
        "expect: 100-continue",
        "traceparent: 00-1-2-00",
        "upgrade: h2c",
        f"x: {'y' * MAX_BYTES}",
    ],
)
async def test_what_bytes_alone_do_not_say_is_not_learnt(more: str) -> None:
    app = App()
    async with connected(app) as (_, reader, writer):
        for _ in range(3):
            writer.write(post("/a", b"1.", more))
            status, _, body = await answer(reader)
            if status == 100:
                _, _, body = await answer(reader)
            assert body == b"/a  1."
    assert app.known == [False, False, False]
    assert HEADS._known == {}


def test_only_one_whole_post_can_be_learnt() -> None:
    headers = [(b"host", b"a"), (b"content-length", b"2")]
    data = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"
    assert candidate(data, "POST", "1.1", headers) is not None
    assert candidate(data + b"P", "POST", "1.1", headers) is None  # something follows
    assert candidate(data[:-1], "POST", "1.1", headers) is None  # something is missing
    assert candidate(data, "GET", "1.1", headers) is None
    assert candidate(data, "POST", "1.0", headers) is None
    assert candidate(data, "POST", "1.1", headers[:1]) is None
    assert candidate(data, "POST", "1.1", [*headers, headers[1]]) is None
    assert candidate(data, "POST", "1.1", [(b"content-length", b"+2")]) is None
    assert candidate(data.replace(END, b"\n\n"), "POST", "1.1", headers) is None


def test_the_table_is_bounded_and_takes_only_what_the_parser_agreed_with() -> None:
    heads = Heads()
    heads.keep(Head(b"unsound", 1), "said")
    assert heads.known(b"unsound", 1) is None
    for number in range(MOST + 1):
        head = Head(b"%d" % number, 1)
        head.sound = True
        heads.keep(head, "said")
    assert len(heads._known) == 1
    assert heads.known(b"%d" % MOST, 1) is not None
    assert heads.known(b"%d" % MOST, 2) is None  # a body of another length is another request


def test_an_exchange_has_all_that_uvicorns_has() -> None:
    given = {name: None for name in inspect.signature(RequestResponseCycle).parameters}
    theirs = RequestResponseCycle(**given)  # type: ignore[arg-type]
    ours = Exchange(MagicMock())
    assert {name for name in vars(theirs) if name not in dir(ours)} == set()


async def ask(reader: Any, writer: Any, http: Http, token: str, body: Any) -> tuple[int, Any]:
    raw = json.dumps(body).encode()
    headers = [
        f"{name}: {value}" for name, value in http.headers(Authorization=f"Bearer {token}").items() if name != "Host"
    ]
    writer.write(post("/mcp", raw, *headers))
    status, _, answered = await answer(reader)
    return status, json.loads(answered)


async def test_a_head_known_for_long_does_not_outlive_its_token(http: Http, gateway: Gateway) -> None:
    token = gateway.tokens.create("laptop")
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "0"}}
    reader, writer = await http.open("")
    for _ in range(4):
        assert (await ask(reader, writer, http, token, rpc("initialize", hello)))[0] == 200
    assert len(HEADS._known) == 1
    gateway.tokens.revoke("laptop")
    status, answered = await ask(reader, writer, http, token, rpc("initialize", hello))
    assert (status, answered["error"]["data"]["code"]) == (401, "auth.invalid")
    writer.close()


async def test_strangers_leave_nothing_in_the_table(http: Http, gateway: Gateway) -> None:
    reader, writer = await http.open("")
    for _ in range(4):
        assert (await ask(reader, writer, http, "hm_" + "x" * 43, rpc("ping")))[0] == 401
    assert HEADS._known == {}
    writer.close()


async def test_what_the_body_says_counts_although_the_head_is_known(http: Http, gateway: Gateway) -> None:
    reader, writer = await http.open("")
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "0"}}
    for number in range(1000, 1004):
        status, answered = await ask(reader, writer, http, http.token, rpc("initialize", hello, number))
        assert (status, answered["id"]) == (200, number)
    raw = json.dumps(rpc("initialize", hello, 1005)).encode()
    headers = [f"{n}: {v}" for n, v in http.headers().items() if n != "Host"]
    writer.write(post("/mcp", b"{" * len(raw), *headers))
    assert (await answer(reader))[0] == 400
    writer.close()
