"""A sandbox from start to end, against the real engine; every test also proves that no container is left."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from typing import Any

import pytest
import uvloop

from sandbox.attach import LINE_TOO_LONG, MAX_LINE_BYTES, WRITE_HIGH_WATER
from sandbox.engine import Engine
from sandbox.errors import EngineFailed, EngineWeak, SandboxClosed, SpecRefused, StdinFull
from sandbox.profile import Profile
from sandbox.reaper import list_sandboxes
from sandbox.sandbox import Exit, Sandbox
from sandbox.spec import SandboxSpec
from tests.sandbox.conftest import Run, Start

pytestmark = pytest.mark.engine


def call(tool: str, number: int = 1, **arguments: Any) -> bytes:
    request = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    return json.dumps(request).encode() + b"\n"


async def answer(run: Run) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(await run.line())
    return body


async def test_lines_written_are_answered_in_order(start: Start, echo_image: str) -> None:
    run = await start(echo_image)
    for number in range(100):
        run.box.write(call("echo", number, text=f"line {number}"))
    answers = [await answer(run) for _ in range(100)]
    assert [a["id"] for a in answers] == list(range(100))
    assert answers[7]["result"]["content"][0]["text"] == "line 7"


def test_it_works_the_same_on_the_event_loop_that_the_gateway_uses(
    engine: Engine, profile: Profile, nothing_left: None, echo_image: str
) -> None:
    async def round_trip() -> tuple[bytes, list[Exit]]:
        run = Run()
        spec = SandboxSpec("echo", echo_image)
        box = await Sandbox.start(engine, profile, spec, on_line=run.lines.put_nowait, on_exit=run.on_exit)
        box.write(call("echo", text="hi"))
        line = await run.line()
        await box.stop()
        return line, run.exits

    line, exits = uvloop.run(round_trip())
    assert json.loads(line)["result"]["content"][0]["text"] == "hi"
    assert [e.reason for e in exits] == ["stopped"]


async def test_a_message_of_megabytes_passes_both_ways(start: Start, echo_image: str) -> None:
    run = await start(echo_image)
    text = "x" * (5 << 20)
    run.box.write(call("echo", text=text))
    await run.box.drain()
    assert (await answer(run))["result"]["content"][0]["text"] == text


async def test_stop_lets_a_server_end_by_itself(start: Start, echo_image: str) -> None:
    run = await start(echo_image)
    await run.box.stop()
    assert run.exits == [Exit(status=0, oom=False, stderr="", reason="stopped")]


async def test_stop_twice_and_at_once_is_one_end(start: Start, echo_image: str) -> None:
    run = await start(echo_image)
    await asyncio.gather(run.box.stop(), run.box.stop(), run.box.stop())
    await run.box.stop()
    assert [e.status for e in run.exits] == [0]  # the second did not cut the first one's grace short


async def test_a_write_while_it_is_being_stopped_is_refused(start: Start, probe_image: str) -> None:
    run = await start(probe_image, "deaf")
    await run.line()
    stopping = asyncio.create_task(run.box.stop(grace_s=0.4))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(SandboxClosed):
        run.box.write(call("echo"))
    await stopping


async def test_a_server_that_ignores_sigterm_is_killed(start: Start, probe_image: str) -> None:
    run = await start(probe_image, "deaf")
    assert await run.line() == b"deaf"
    await run.box.stop(grace_s=0.2)
    assert run.exits[0].status == 128 + 9


async def test_a_cancelled_stop_still_ends_the_sandbox(start: Start, probe_image: str) -> None:
    run = await start(probe_image, "deaf")
    await run.line()
    stopping = asyncio.create_task(run.box.stop(grace_s=0.4))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert (await run.end()).status == 128 + 9


async def test_a_server_that_closed_its_output_can_be_stopped(start: Start, probe_image: str) -> None:
    run = await start(probe_image, "mute")
    await run.box.stop(grace_s=0.2)
    assert len(run.exits) == 1


@pytest.mark.parametrize("status", [0, 3])
async def test_a_server_that_exits_is_told_with_its_status(start: Start, probe_image: str, status: int) -> None:
    run = await start(probe_image, "exit", str(status))
    end = await run.end()
    assert (end.status, end.reason) == (status, f"exited with status {status}")
    await run.box.stop()
    assert len(run.exits) == 1


async def test_a_crash_is_told_with_its_signal_and_last_words(start: Start, echo_image: str) -> None:
    run = await start(echo_image)
    run.box.write(call("stderr", text="about to fail"))
    await run.line()
    run.box.write(call("crash", signal=11))
    end = await run.end()
    assert end.status == 128 + 11
    assert end.stderr == "about to fail\n"
    with pytest.raises(SandboxClosed):
        run.box.write(call("echo"))


async def test_a_line_without_end_ends_the_sandbox(start: Start, probe_image: str) -> None:
    run = await start(probe_image, "line", str(MAX_LINE_BYTES + (1 << 20)))
    end = await run.end()
    assert end.reason == LINE_TOO_LONG
    assert run.all_lines() == []


async def test_bytes_that_are_not_utf8_or_json_are_passed_on_as_they_are(start: Start, probe_image: str) -> None:
    run = await start(probe_image, "bytes")
    await run.end()
    assert run.all_lines() == [b"\xff\xfe\x00garbage", b"", b'{"ok":1}']


async def test_a_server_that_does_not_read_is_noticed(start: Start, probe_image: str) -> None:
    run = await start(probe_image, "unread")
    block = b"x" * (1 << 20)
    draining = None
    with pytest.raises(StdinFull):
        for _ in range(64):
            run.box.write(block)
            draining = draining or asyncio.create_task(run.box.drain())
            await asyncio.sleep(0)
    assert draining is not None
    assert not draining.done()
    await run.box.stop(grace_s=0.2)
    await draining  # the end of a sandbox lets go of who waits for it
    assert WRITE_HIGH_WATER < 1 << 20


async def test_a_chatterbox_on_stderr_costs_bounded_memory_and_cannot_write_to_a_terminal(
    start: Start, probe_image: str
) -> None:
    run = await start(probe_image, "chatter")
    assert await run.line() == b"a lot"
    await run.box.stop(grace_s=0.2)
    tail = run.exits[0].stderr
    assert "\\x1b[31mnoise" in tail
    assert "\x1b" not in tail
    assert "\u202e" not in tail
    assert len(tail) < 1 << 20


async def test_a_secret_given_to_a_server_is_redacted_from_its_last_words(start: Start, probe_image: str) -> None:
    run = await start(
        probe_image, "say", "token is s3cr3t-v4lue!", env={"PLACE": "s3cr3t-v4lue"}, secret_env=frozenset({"PLACE"})
    )
    assert (await run.end()).stderr == "token is [redacted]!"


async def test_the_environment_reaches_the_server(start: Start, echo_image: str) -> None:
    run = await start(echo_image, env={"CITY": "Bergen"})
    run.box.write(call("env", name="CITY"))
    assert (await answer(run))["result"]["content"][0]["text"] == "Bergen"


async def refused(engine: Engine, profile: Profile, spec: SandboxSpec, error: type[Exception]) -> None:
    run = Run()
    with pytest.raises(error):
        await Sandbox.start(engine, profile, spec, on_line=run.lines.put_nowait, on_exit=run.on_exit)
    assert list_sandboxes(engine) == []
    assert run.exits == []


async def test_a_start_that_fails_leaves_nothing(
    engine: Engine, profile: Profile, nothing_left: None, echo_image: str
) -> None:
    image = echo_image
    info = engine.info()
    usable = info.runtimes if info.name == "docker" else (info.default_runtime,)
    absent = next(r for r in ("kata", "kata-runtime", "runsc") if r not in usable)
    await refused(engine, profile, SandboxSpec("x", image, runtime=absent), EngineWeak)
    await refused(engine, profile, SandboxSpec("x", "echo:latest"), EngineFailed)
    await refused(engine, profile, SandboxSpec("x", image, limits={"pids": -1}), SpecRefused)
    await refused(engine, profile, SandboxSpec("x", "sha256:" + "0" * 64), EngineFailed)


async def test_a_start_that_is_cancelled_at_any_moment_leaves_nothing(
    engine: Engine, profile: Profile, nothing_left: None, echo_image: str
) -> None:
    """Each round cancels a little later, until one has started before it could be cancelled."""
    for moments in range(1000):
        run = Run()
        spec = SandboxSpec("echo", echo_image)
        starting = asyncio.create_task(
            Sandbox.start(engine, profile, spec, on_line=run.lines.put_nowait, on_exit=run.on_exit)
        )
        for _ in range(moments):
            await asyncio.sleep(0.01)
        starting.cancel()
        try:
            box = await starting
        except asyncio.CancelledError:
            assert list_sandboxes(engine) == []
            assert run.exits == []
        else:
            await box.stop()
            assert moments > 2
            return
    pytest.fail("no start ever finished")


@pytest.mark.slow
async def test_fifty_starts_and_stops_leak_nothing(engine: Engine, start: Start, echo_image: str) -> None:
    async def one() -> None:
        run = await start(echo_image)
        run.box.write(call("echo", text="hi"))
        await run.line()
        await run.box.stop()

    await asyncio.gather(*(one() for _ in range(10)))  # the pools of threads and connections fill
    before = open_files(), threading.active_count(), len(asyncio.all_tasks())
    for _ in range(5):
        await asyncio.gather(*(one() for _ in range(10)))
    after = open_files(), threading.active_count(), len(asyncio.all_tasks())
    assert after[0] <= before[0] + 6  # connections that the pool keeps on top
    assert after[1:] <= (before[1] + 6, before[2])
    assert list_sandboxes(engine) == []


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
