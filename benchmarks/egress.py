"""What the way through relay and broker costs: start, latency and throughput, beside the same client and server with no
relay between.  ``python -m benchmarks.egress``; needs a container engine and gcc.  Prints Markdown.

The baseline is the same client program, run on the host, over the same loopback: both sides take turns in one run.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harbourmaster.core.settings import Settings
from sandbox.egress.broker import Broker
from sandbox.egress.egress import Egress, network
from sandbox.egress.resolver import Place
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec
from tests.fixtures.images import compile_static
from tests.fixtures.relay_images import CLIENT_SOURCE, build_client_image, build_relay_image

GIB = 1 << 30
ROUNDS = 2000
TURNS = 5
STARTS = 9

Ask = Callable[[str], Awaitable[str]]


@contextlib.contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A loopback server in threads of its own process, so that it takes no turn from the broker's loop."""
    listener = socket.create_server(("127.0.0.1", 0))
    process = multiprocessing.get_context("fork").Process(target=_accept, args=(listener, serve), daemon=True)
    process.start()
    try:
        yield listener.getsockname()[1]
    finally:
        process.terminate()
        process.join()
        listener.close()


def _accept(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def echo(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


def source(connection: socket.socket) -> None:
    block = bytes(1 << 20)
    with connection:
        for _ in range(GIB >> 20):
            connection.sendall(block)


@contextlib.asynccontextmanager
async def inside(engine: Engine, profile: Profile, port: int, home: Path) -> AsyncIterator[Ask]:
    async def look(host: str, wanted: int) -> list[Place]:
        return [Place(socket.AF_INET, "127.0.0.1", port)]

    relay_image, client_image = build_relay_image(engine), build_client_image(engine)
    egress = Egress(engine, profile, Broker(home / "egress", lambda _: None, look=look), lambda: relay_image, spares=0)
    net = await network(egress, "bench", {"hosts": ["bench.test:7000"], "private": ["bench.test:7000"]})
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    spec = net.join(SandboxSpec("bench", client_image))
    box = await Sandbox.start(engine, profile, spec, on_line=lines.put_nowait, on_exit=lambda _: None)
    net.serve(box)

    async def ask(line: str) -> str:
        box.write(line.encode() + b"\n")
        return (await lines.get()).decode()

    try:
        yield ask
    finally:
        await box.stop()
        net.release()
        await egress.close()


@contextlib.contextmanager
def outside(place: Path) -> Iterator[Ask]:
    process = subprocess.Popen([place], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(line: str) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        return process.stdout.readline().decode()

    try:
        yield lambda line: asyncio.to_thread(ask, line)
    finally:
        process.terminate()
        process.communicate()


async def latency(ask: Ask, host: str, port: int) -> float:
    """Median microseconds of a round trip of 100 bytes."""
    _, number = (await ask(f"connect {host} {port}")).split()
    _, median, _ = (await ask(f"ping {number} {ROUNDS} 100")).split()
    await ask(f"close {number}")
    return float(median)


async def throughput(ask: Ask, host: str, port: int) -> float:
    """Gbit/s of one connection's download of 1 GiB."""
    _, number = (await ask(f"connect {host} {port}")).split()
    began = time.perf_counter()
    how, size, _ = (await ask(f"sink {number}")).split()
    seconds = time.perf_counter() - began
    assert (how, int(size)) == ("eof", GIB), (how, size)
    await ask(f"close {number}")
    return GIB * 8 / seconds / 1e9


async def starts(engine: Engine, profile: Profile, home: Path) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds: a sandbox without rules, the same with a rule and its relay started cold, and with one kept warm."""
    image, relay_image = build_client_image(engine), build_relay_image(engine)
    egress = Egress(engine, profile, Broker(home / "starts", lambda _: None), lambda: relay_image, spares=0)
    rule = {"hosts": ["bench.test:7000"], "private": []}

    async def one(settings: dict[str, Any], *, warm: bool = False) -> float:
        net = await network(egress, "bench", settings) if warm else None
        began = time.perf_counter()
        net = net or await network(egress, "bench", settings)
        answered = asyncio.Event()
        spec = net.join(SandboxSpec("bench", image))
        box = await Sandbox.start(engine, profile, spec, on_line=lambda _: answered.set(), on_exit=lambda _: None)
        box.write(b"connect localhost 1\n")
        await answered.wait()
        took = time.perf_counter() - began
        await box.stop()
        net.release()
        return took * 1000

    taken: tuple[list[float], list[float], list[float]] = ([], [], [])
    for _ in range(STARTS):
        taken[0].append(await one({}))
        taken[1].append(await one(rule))
        taken[2].append(await one(rule, warm=True))
    await egress.close()
    return taken


async def turns(
    engine: Engine,
    home: Path,
    serve: Callable[[socket.socket], None],
    measure: Callable[[Ask, str, int], Awaitable[float]],
) -> tuple[float, float]:
    """Medians (direct, through relay and broker), measured in turns."""
    program = home / "client"
    program.write_bytes(compile_static(CLIENT_SOURCE))
    program.chmod(0o700)
    direct, through = [], []
    with server(serve) as port, outside(program) as ask_outside:
        async with inside(engine, Profile.load(), port, home) as ask:
            for _ in range(TURNS):
                direct.append(await measure(ask_outside, "127.0.0.1", port))
                through.append(await measure(ask, "bench.test", 7000))
    return statistics.median(direct), statistics.median(through)


async def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        engine = Engine.connect(Settings.load(home=home))
        bare, cold, warm = map(statistics.median, await starts(engine, Profile.load(), home))
        near, far = await turns(engine, home, echo, latency)
        plain, relayed = await turns(engine, home, source, throughput)
        engine.close()
    print("| what | without | through relay and broker | difference | goal |\n|---|---|---|---|---|")
    print(f"| start, relay cold | {bare:.0f} ms | {cold:.0f} ms | {cold - bare:+.0f} ms | at most +250 ms |")
    print(f"| start, relay warm | {bare:.0f} ms | {warm:.0f} ms | {warm - bare:+.0f} ms | nothing |")
    print(f"| round trip, 100 bytes | {near:.0f} µs | {far:.0f} µs | {far - near:+.0f} µs | under +500 µs |")
    print(f"| one download | {plain:.1f} Gbit/s | {relayed:.1f} Gbit/s | x {relayed / plain:.2f} | over 2 Gbit/s |")


if __name__ == "__main__":
    uvloop.run(main())
