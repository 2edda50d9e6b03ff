"""The attach stream against a scripted engine on a real Unix socket, and fed by hand in every way bytes can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandbox import attach as attach_module
from sandbox.attach import (
    LINE_TOO_LONG,
    LINES_PER_TURN,
    MAX_LINE_BYTES,
    PAUSE_S,
    STREAM_BROKEN,
    AttachStream,
    attach,
)
from sandbox.errors import EngineFailed, SandboxClosed

HEAD = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nUpgrade: tcp\r\n\r\n"


def frame(payload: bytes, kind: int = 1) -> bytes:
    return bytes([kind, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


class Heard:
    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.errors = b""
        self.ends: list[str] = []
        self.stream = AttachStream(b"", self.lines.append, self._stderr, self.ends.append)

    def _stderr(self, chunk: bytes) -> None:
        self.errors += chunk

    def feed(self, *chunks: bytes) -> Heard:
        for chunk in chunks:
            self.stream.data_received(chunk)
        return self


MESSAGES = frame(b'{"a":1}\n{"b"') + frame(b"oops\n", 2) + frame(b":2}\n\n") + frame(b"") + frame(b"no end")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 13, 1000])
async def test_frames_and_lines_survive_any_cut(size: int) -> None:
    data = HEAD + MESSAGES
    heard = Heard().feed(*(data[i : i + size] for i in range(0, len(data), size)))
    assert heard.lines == [b'{"a":1}', b'{"b":2}', b""]
    assert heard.errors == b"oops\n"
    assert heard.ends == []


async def test_a_line_of_the_largest_size_passes_and_one_byte_more_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach_module, "MAX_LINE_BYTES", 1000)
    assert len(Heard().feed(HEAD, frame(b"x" * 1000 + b"\n")).lines[0]) == 1000
    heard = Heard().feed(HEAD, frame(b"x" * 600), frame(b"x" * 401 + b"\n"), frame(b"later\n"))
    assert (heard.lines, heard.ends) == ([], [LINE_TOO_LONG])


async def test_a_line_that_never_ends_is_cut_off_at_the_limit() -> None:
    heard = Heard().feed(HEAD)
    block = frame(b"x" * 65536)
    for _ in range(MAX_LINE_BYTES // 65536):
        heard.feed(block)
    assert heard.ends == []
    assert heard.feed(block).ends == [LINE_TOO_LONG]


@pytest.mark.parametrize("bad", [b"\x03\0\0\0\0\0\0\x01x", b"\x01\x01\0\0\0\0\0\x01x", b'{"message":"no frames here"}'])
async def test_bytes_that_are_not_frames_end_it(bad: bytes) -> None:
    assert Heard().feed(HEAD, bad).ends == [STREAM_BROKEN]


class Pausable(asyncio.Transport):
    """Notes what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.resumed = asyncio.Event()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        pass

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")
        self.resumed.set()

    def abort(self) -> None:
        self.asked.append("abort")


FLOOD = [b"%d" % number for number in range(5 * LINES_PER_TURN + 7)]


async def test_a_flood_is_read_in_turns_and_nothing_of_it_is_lost_or_out_of_order() -> None:
    heard, transport = Heard(), Pausable()
    heard.stream.connection_made(transport)
    payload = b"\n".join(FLOOD) + b"\n"
    heard.feed(HEAD + frame(payload[:1000]) + frame(payload[1000:]) + frame(b"last words", 2))
    assert len(heard.lines) == LINES_PER_TURN
    assert transport.asked == ["pause"]
    await transport.resumed.wait()
    assert heard.lines == FLOOD
    assert heard.errors == b"last words"


async def test_a_flood_on_stderr_is_read_in_turns_too() -> None:
    heard, transport = Heard(), Pausable()
    heard.stream.connection_made(transport)
    heard.feed(HEAD + frame(b"e" * 40_000, 2) * 8)
    assert len(heard.errors) == 80_000
    await transport.resumed.wait()
    assert len(heard.errors) == 8 * 40_000


async def test_the_rest_of_a_flood_is_heard_before_the_end() -> None:
    heard = Heard()
    heard.stream.connection_made(Pausable())
    heard.feed(HEAD + frame(b"\n".join(FLOOD) + b"\n"))
    heard.stream.connection_lost(None)
    assert heard.lines == FLOOD
    assert heard.ends == [""]


async def test_an_abort_in_the_middle_of_a_flood_is_the_end_of_it() -> None:
    heard = Heard()
    heard.stream.connection_made(Pausable())
    heard.feed(HEAD + frame(b"\n".join(FLOOD) + b"\n"))
    heard.stream.abort("enough")
    await asyncio.sleep(2 * PAUSE_S)
    assert len(heard.lines) == LINES_PER_TURN
    assert heard.ends == ["enough"]


async def test_nothing_is_heard_after_the_end() -> None:
    heard = Heard().feed(HEAD)
    heard.stream.eof_received()
    heard.feed(frame(b"late\n"))
    heard.stream.connection_lost(None)
    assert (heard.lines, heard.ends) == ([], [""])
    with pytest.raises(SandboxClosed):
        heard.stream.write(b"x\n")


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


async def attached_to(script: Script, tmp_path: Path, heard: Heard) -> AttachStream:
    path = str(tmp_path / "engine.sock")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        finally:
            writer.close()

    engine: Any = SimpleNamespace(url=f"unix://{path}", api=SimpleNamespace(api_version="1.41"))
    async with await asyncio.start_unix_server(serve, path):
        return await attach(engine, "c" * 64, on_line=heard.lines.append, on_stderr=print, on_end=heard.ends.append)


async def test_the_request_is_what_the_api_asks_for(tmp_path: Path) -> None:
    seen = b""

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen = await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        await writer.drain()

    (await attached_to(engine, tmp_path, Heard())).abort()
    first = seen.split(b"\r\n")[0]
    assert first == b"POST /v1.41/containers/" + b"c" * 64 + b"/attach?stream=1&stdout=1&stderr=1&stdin=1 HTTP/1.1"
    assert b"Upgrade: tcp\r\n" in seen


async def test_an_engine_that_says_no_is_an_error_with_its_words(tmp_path: Path) -> None:
    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 404 Not Found\r\nContent-Length: 27\r\n\r\n{"message":"no container c"}')
        await writer.drain()

    heard = Heard()
    with pytest.raises(EngineFailed, match="404 Not Found"):
        await attached_to(engine, tmp_path, heard)
    assert heard.ends == []


async def test_an_engine_that_hangs_up_is_an_error(tmp_path: Path) -> None:
    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    with pytest.raises(EngineFailed):
        await attached_to(engine, tmp_path, Heard())


async def test_an_engine_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach_module, "ATTACH_TIMEOUT_S", 0.01)

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    with pytest.raises(EngineFailed, match="did not attach"):
        await attached_to(engine, tmp_path, Heard())


async def test_an_engine_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    engine: Any = SimpleNamespace(url=f"unix://{tmp_path}/none", api=SimpleNamespace(api_version="1.41"))
    with pytest.raises(EngineFailed, match="cannot be reached"):
        await attach(engine, "c", on_line=print, on_stderr=print, on_end=print)
