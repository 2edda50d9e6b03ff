"""How long a sandbox takes to start and stop, and what one attach stream carries.  Usage: python benchmarks/sandbox.py"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec
from tests.fixtures.images import ECHO_SOURCE, build_image

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}\n'
ROUNDS = 15
CALLS = 30_000


async def cold(engine: Engine, profile: Profile, image: str) -> tuple[float, float]:
    """Seconds from nothing to the first answer, and from there to nothing."""
    answered = asyncio.Event()
    begun = time.perf_counter()
    spec = SandboxSpec("bench", image)
    box = await Sandbox.start(engine, profile, spec, on_line=lambda _: answered.set(), on_exit=lambda _: None)
    box.write(CALL)
    await answered.wait()
    first = time.perf_counter()
    await box.stop()
    return first - begun, time.perf_counter() - first


async def carried(engine: Engine, profile: Profile, image: str, in_flight: int) -> tuple[float, float]:
    """Calls a second over one stream with ``in_flight`` unanswered, and our processor time for each in microseconds."""
    left, done = CALLS, asyncio.Event()

    def on_line(_: bytes) -> None:
        nonlocal left
        left -= 1
        if left >= in_flight:
            box.write(CALL)
        elif left == 0:
            done.set()

    box = await Sandbox.start(engine, profile, SandboxSpec("bench", image), on_line=on_line, on_exit=lambda _: None)
    wall, cpu = time.perf_counter(), time.process_time()
    box.write(CALL * in_flight)
    await done.wait()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await box.stop()
    return CALLS / wall, cpu / CALLS * 1e6


async def main() -> None:
    engine, profile = Engine.connect(Settings.load()), Profile.load()
    print(f"{engine.info().name} {engine.info().version}")
    for hosts in (True, False):
        image = build_image(engine, "hm-test-echo", ECHO_SOURCE, hosts=hosts)
        times = [await cold(engine, profile, image) for _ in range(ROUNDS)]
        start, stop = (statistics.median(t[i] for t in times) * 1000 for i in (0, 1))
        print(
            f"image {'with' if hosts else 'without'} /etc/hosts: first answer {start:.0f} ms, stop {stop:.0f} ms (median)"
        )
    image = build_image(engine, "hm-test-echo", ECHO_SOURCE)
    for in_flight in (1, 8, 32, 128):
        rate, cpu = await carried(engine, profile, image, in_flight)
        print(f"{in_flight:4d} in flight: {rate:,.0f} calls/s, {cpu:.1f} us of our processor time each")
    engine.close()


if __name__ == "__main__":
    uvloop.run(main())
