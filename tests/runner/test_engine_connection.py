"""What an engine says reaches the request that it is for, however the bytes come."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import orjson
import pytest
import uvloop

from runner.api.http import Phrase, sse
from runner.engine import wire
from runner.engine.connection import Connection, Inbox

ODD = ["", "plain", '"quoted" \\ and\nbroken', "\u2028 é 船 \U0001f6a2", "\x00\x1f", "data: [DONE]"]


class Refused:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


async def taken(inbox: Inbox, count: int) -> list[dict[str, Any]]:
    return [await asyncio.wait_for(inbox.get(), 10) for _ in range(count)]


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
async def test_frames_arrive_whole_and_in_order_wherever_the_bytes_are_cut(size: int) -> None:
    refused = Refused()
    connection = Connection(refused)
    one, two = connection.inboxes[1], connection.inboxes[2] = Inbox(), Inbox()
    frames: list[dict[str, Any]] = [{"ev": "step", "ids": [1, 2, 3], "texts": [t, t + "!", "nobody's"]} for t in ODD]
    frames += [{"id": 1, "ev": "done", "reason": "stop"}, {"id": 2, "ev": "error", "error": {"code": "x"}}]
    data = b"".join(map(wire.encode, frames))
    for start in range(0, len(data), size):
        connection.data_received(data[start : start + size])
    assert [f.get("text", f["ev"]) for f in await taken(one, len(ODD) + 1)] == [*ODD, "done"]
    assert [f.get("text", f["ev"]) for f in await taken(two, len(ODD) + 1)] == [*(t + "!" for t in ODD), "error"]
    assert refused.times == 0


@pytest.mark.parametrize(
    "line", [b"no JSON\n", b"[1]\n", b"{}\n", b'{"ev":"delta"}\n', b'{"ev":"step","ids":[1],"texts":[]}\n', b"\xff\n"]
)
async def test_what_is_no_frame_is_refused(line: bytes) -> None:
    refused = Refused()
    Connection(refused).data_received(line)
    assert refused.times == 1


async def test_a_frame_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME", 100)
    refused = Refused()
    connection = Connection(refused)
    connection.data_received(b"{" * 60)
    assert refused.times == 0
    connection.data_received(b"{" * 60)
    assert refused.times == 1


async def test_who_stops_waiting_takes_nothing_from_who_waits_next() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    waiting.cancel()
    inbox.put({"ev": "delta", "text": "Hi"})
    assert (await taken(inbox, 1))[0]["text"] == "Hi"


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_end_of_the_connection_is_told_on_either_loop(loop: Any) -> None:
    async def talk() -> bytes:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        running = asyncio.get_running_loop()
        _, connection = await running.create_connection(lambda: Connection(Refused()), sock=ours)
        connection.write(b"hello\n")
        said = await running.sock_recv(theirs, 100)
        theirs.close()
        await asyncio.wait_for(connection.lost, 10)
        connection.write(b"nobody hears this\n")
        return said

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(talk()) == b"hello\n"


@pytest.mark.parametrize("text", ODD)
def test_a_phrase_is_the_event_that_it_stands_for(text: str) -> None:
    def make(said: str) -> bytes:
        return sse({"model": 'a "mark" \\', "choices": [{"delta": {"content": said}, "index": 0}], "usage": None})

    assert Phrase(make)(text) == make(text)
    assert orjson.loads(Phrase(make)(text)[6:])["choices"][0]["delta"]["content"] == text
