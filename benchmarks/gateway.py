"""What the gateway adds to a call: the same load on the bare pass-through and on the gateway with everything on.

``python -m benchmarks.gateway [--seconds 10]``; needs a container engine, gcc (for the echo server) and ``wrk``.  Prints
Markdown.  Times move between machines and minutes, ratios much less: both sides take turns in one run.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from tests.fixtures.images import build_echo_image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CONNECTIONS = (1, 8, 32)
COLD_STARTS = 10
WARM_CALLS = 200


@dataclass(frozen=True)
class Side:
    url: str
    token: str
    session: str


@dataclass(frozen=True)
class Load:
    p50_ms: float
    p99_ms: float
    per_second: float
    failed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of load per figure")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as home:
        os.environ["HM_HOME"] = home
        engine = Engine.connect(Settings.load())
        image = build_echo_image(engine)
        info = engine.info()
        engine.close()
        print(f"{machine()}; {info.name} {info.version}; Python {platform.python_version()}; {seconds} s per figure.\n")
        with started("benchmarks.wire.bare", image) as bare, started("tests.gateway.live", image) as live:
            gateway = Side(live.url, live.token, initialize(live))
            call(gateway)
            report([(n, load(bare, n, seconds), load(gateway, n, seconds)) for n in CONNECTIONS])
            first_calls(live)


def report(rows: list[tuple[int, Load, Load]]) -> None:
    print("| connections | | p50 ms | p99 ms | calls/s | failed |")
    print("|---|---|---|---|---|---|")
    for count, bare, gateway in rows:
        for name, side in (("bare", bare), ("gateway", gateway)):
            figures = f"{side.p50_ms:.2f} | {side.p99_ms:.2f} | {side.per_second:,.0f} | {side.failed}"
            print(f"| {count} | {name} | {figures} |")
        added = gateway.p50_ms - bare.p50_ms
        ratio = gateway.per_second / bare.per_second
        print(f"| {count} | **gateway against bare** | {added:+.2f} | | x {ratio:.2f} | |")


def first_calls(side: Side) -> None:
    """The first call of a new session (it starts a sandbox), and the ones after it, from one client."""
    cold, warm = [], []
    for _ in range(COLD_STARTS):
        fresh = Side(side.url, side.token, initialize(side))
        cold.append(timed(fresh))
        warm += [timed(fresh) for _ in range(WARM_CALLS // COLD_STARTS)]
        request(fresh, "DELETE", None)
    print("\n| a session's | median ms | slowest ms |")
    print("|---|---|---|")
    print(f"| first call (starts a sandbox) | {statistics.median(cold):.0f} | {max(cold):.0f} |")
    print(f"| later calls (new connection each) | {statistics.median(warm):.2f} | {max(warm):.2f} |")


def load(side: Side, connections: int, seconds: int) -> Load:
    command = [
        "wrk",
        f"-t{min(connections, 1)}",
        f"-c{connections}",
        f"-d{seconds}s",
        "-s",
        str(HERE / "wire/call.lua"),
    ]
    command += [side.url, "--", side.token, side.session, str(connections)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    requests, duration_us, p50_us, p99_us, failed = map(int, line.split()[1:])
    return Load(p50_us / 1000, p99_us / 1000, requests / (duration_us / 1e6), failed)


@contextlib.contextmanager
def started(module: str, image: str) -> Iterator[Side]:
    process = subprocess.Popen(
        [sys.executable, "-m", module, image, str(free_port())], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        words = process.stdout.readline().split()
        side = Side(words[0], words[1], "-")
        wait_for(side)
        yield side
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def wait_for(side: Side) -> None:
    where = urlsplit(side.url)
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection((where.hostname, where.port), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens at {side.url}")


def request(side: Side, method: str, body: Any) -> tuple[http.client.HTTPMessage, Any]:
    where = urlsplit(side.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    headers = {
        "Authorization": f"Bearer {side.token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Mcp-Session-Id": side.session,
    }
    try:
        connection.request(method, where.path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        raw = response.read()
    finally:
        connection.close()
    return response.headers, json.loads(raw) if raw else None


def initialize(side: Side) -> str:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "0"}}
    headers, _ = request(side, "POST", {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})
    return str(headers["mcp-session-id"])


def call(side: Side) -> None:
    params = {"name": "echo", "arguments": {"text": "hello"}}
    _, reply = request(side, "POST", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    assert reply["result"]["content"][0]["text"] == "hello", reply


def timed(side: Side) -> float:
    began = time.perf_counter()
    call(side)
    return (time.perf_counter() - began) * 1000


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def machine() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return f"{os.cpu_count()} x {names[0] if names else platform.machine()}, {platform.system()} {platform.release()}"


if __name__ == "__main__":
    main()
