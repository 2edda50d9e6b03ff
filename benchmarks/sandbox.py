"""What the profile costs: a sandbox's start beside a bare ``docker run`` of the same image, and what one attach stream carries.

Usage: ``python benchmarks/sandbox.py``.  Bare is the same calls to the engine (create, attach, start) with nothing but the
image and its stdin: root as the image says, all default capabilities, the engine's own system call list, no limits.  Once on
the default bridge, as people run it, and once with ``--network none``.  All take turns in one run.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harbourmaster.core.settings import Settings
from sandbox import sandbox as sandbox_module
from sandbox.engine import Engine
from sandbox.profile import Profile, container_config
from sandbox.sandbox import Sandbox
from sandbox.spec import ImageFacts, SandboxSpec
from tests.fixtures.images import ECHO_SOURCE, build_image

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}\n'
ROUNDS = 15
CALLS = 30_000

Body = dict[str, Any]
Make = Callable[..., Body]


def full(profile: Profile, spec: SandboxSpec, image: ImageFacts | None = None) -> Body:
    return container_config(profile, spec, image)


def bare(network: str) -> Make:
    def make(profile: Profile, spec: SandboxSpec, image: ImageFacts | None = None) -> Body:
        streams = {
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "OpenStdin": True,
            "StdinOnce": True,
        }
        return {"Image": spec.image_id, "Labels": dict(spec.labels), "HostConfig": {"NetworkMode": network}} | streams

    return make


async def cold(engine: Engine, profile: Profile, image: str, make: Make = full) -> tuple[float, float]:
    """Seconds from nothing to the first answer, and from there to nothing."""
    answered = asyncio.Event()
    sandbox_module.container_config = make
    begun = time.perf_counter()
    spec = SandboxSpec("bench", image)
    box = await Sandbox.start(engine, profile, spec, on_line=lambda _: answered.set(), on_exit=lambda _: None)
    box.write(CALL)
    await answered.wait()
    first = time.perf_counter()
    await box.stop()
    sandbox_module.container_config = container_config
    return first - begun, time.perf_counter() - first


async def beside_bare(engine: Engine, profile: Profile, image: str) -> None:
    """Each way once a round, so that what else the machine does falls on all of them."""
    ways = {"full profile": full, "bare, --network none": bare("none")}
    if "docker0" in {name for _, name in socket.if_nameindex()}:
        ways["bare docker run (bridge)"] = bare("bridge")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, make in ways.items():
            times[name].append((await cold(engine, profile, image, make))[0] * 1000)
    mine = statistics.median(times["full profile"])
    print("| start to first answer | median | least | full profile beside it |\n|---|---|---|---|")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"| {name} | {median:.0f} ms | {min(taken):.0f} ms | {(mine / median - 1) * 100:+.0f} % |")


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
        print(f"\nimage {'with' if hosts else 'without'} the label harbourmaster.hosts:")
        await beside_bare(engine, profile, image)
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
