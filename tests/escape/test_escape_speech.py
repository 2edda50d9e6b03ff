"""What a hostile server says: no words of it harm the gateway, the caller, or a person's terminal."""

from __future__ import annotations

import asyncio

import pytest

from gateway.limits import LIMITS
from sandbox.attach import MAX_LINE_BYTES
from sandbox.engine import Engine
from sandbox.text import STDERR_KEPT
from tests.escape.caller import Caller
from tests.escape.captive import captured
from tests.escape.conftest import Harbour, Note

pytestmark = pytest.mark.engine


def test_a_line_without_end_ends_its_sandbox(doomed: Caller, note: Note) -> None:
    error = doomed.call("endless_line", most_mb=64)["error"]
    note("one line of 64 MB that never ends", f"lines of at most {MAX_LINE_BYTES >> 20} MB", error["data"]["code"])
    assert error["data"]["code"] == "gateway.server_exited"
    assert str(MAX_LINE_BYTES) in error["message"]


def test_lines_that_are_no_messages_are_dropped(doomed: Caller, note: Note) -> None:
    reply = doomed.call("flood", lines=5_000)
    note("5,000 lines that are no messages", "dropped before the answer", "the answer came")
    assert reply["result"]["content"]


def test_a_flood_of_them_ends_the_sandbox(doomed: Caller, note: Note) -> None:
    error = doomed.call("flood", lines=5_000_000)["error"]
    note("5,000,000 lines that are no messages", f"{LIMITS.junk_lines} at most, read in turns", error["data"]["code"])
    assert error["data"]["code"] == "gateway.server_exited"
    assert str(LIMITS.junk_lines) in error["message"]


@pytest.mark.parametrize(("tool", "what"), [("chatter", "logs, progress and cancellations"), ("questions", "requests")])
def test_messages_that_nobody_wants_harm_nobody(doomed: Caller, note: Note, tool: str, what: str) -> None:
    reply = doomed.call(tool, lines=3_000)
    note(f"thousands of {what} that nobody asked for", "dropped or refused", "the answer came")
    assert reply["result"]["content"]
    assert set(doomed.attempt("about_the_host").values()) == {"HIDDEN"}, "the session goes on"


def test_deep_json_is_dropped_or_passed_and_never_an_end(doomed: Caller, note: Note) -> None:
    reply = doomed.call("deep_json", depth=300_000)
    note("JSON 300,000 levels deep", "dropped before the answer", "the answer came")
    assert reply["result"]["content"]


def test_bytes_that_are_no_text_and_messages_that_are_none_are_dropped(doomed: Caller, note: Note) -> None:
    seen = doomed.attempt("invalid_text")
    note(
        "invalid UTF-8, NUL bytes, answers nobody asked for, ids that are none",
        "dropped before the answer",
        f"{seen['said']} lines",
    )
    assert int(seen["said"]) > 10
    assert set(doomed.attempt("about_the_host").values()) == {"HIDDEN"}, "the session goes on"


async def test_terminal_escapes_in_stderr_are_visible_and_obeyed_by_nothing(
    engine: Engine, hostile_image: str, note: Note
) -> None:
    async with captured(engine, hostile_image) as captive:
        assert await captive.attempt("terminal_escapes", noise=100_000) == {"said": "1"}
        assert captive.box is not None
        for _ in range(2000):  # stderr has no order with stdout
            if "drowssap" in (text := captive.box.stderr_tail())[-200:]:
                break
            await asyncio.sleep(0.005)
    note(
        "terminal escapes and reordering in 600 KB of stderr",
        "shown, not sent; 64 KB kept",
        r"\x1b and \u202e in the text",
    )
    assert r"\x1b[2J" in text
    assert r"\u202e" in text
    assert not set("\x1b\x07\x9b\r\u202e") & set(text)
    assert len(text) < 2 * STDERR_KEPT


def test_after_all_of_this_the_gateway_is_well(harbour: Harbour) -> None:
    assert harbour.process.poll() is None
    with harbour.session() as caller:
        reply = caller.call("echo", text="still here")
        assert reply["result"]["content"][0]["text"] == "still here"
