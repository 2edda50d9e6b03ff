"""What the gateway adds to a call, and what starts, lists and memory cost: everything on, beside a bare pass-through.

    python -m benchmarks.gateway [--seconds 10] [--rounds 3] [--minutes 0] [--fastmcp PYTHON]
        [--contextforge PYTHON]

Needs a container engine, gcc (for the echo server) and ``wrk``.  Prints Markdown.  Times move between machines and
minutes, ratios much less: all sides take turns in one run, round by round, and each figure is the median of its rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import gateway_lists, gateway_memory, gateway_peers
from benchmarks.gateway_sides import Side, call, initialize, request, started, status
from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from tests.fixtures.images import build_echo_image

HERE = Path(__file__).resolve().parent
CONNECTIONS = (1, 8, 32)
STARTS = 10
LATER_CALLS = 20


class Load:
    """One figure of ``wrk``'s."""

    def __init__(self, line: str) -> None:
        self.requests, duration_us, p50_us, p99_us, self.failed = map(int, line.split()[1:])
        self.p50_ms, self.p99_ms = p50_us / 1000, p99_us / 1000
        self.per_second = self.requests / (duration_us / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of load per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=0, help="of load while memory is watched; 0: none")
    parser.add_argument(
        "--fastmcp", default="", help="the Python of a venv that has fastmcp: its proxy in the same run"
    )
    parser.add_argument("--contextforge", default="", help="likewise, of a venv that has mcp-contextforge-gateway")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        os.environ["HM_HOME"] = home
        engine = Engine.connect(Settings.load())
        image, info = build_echo_image(engine), engine.info()
        engine.close()
        print(
            f"{machine()}; {info.name} {info.version}; Python {platform.python_version()}; {given.seconds} s per round,"
        )
        print(f"median of {given.rounds}; load average before the start {os.getloadavg()[0]:.1f}.\n")
        sides = {"bare": stack.enter_context(started("benchmarks.wire.bare", image))}
        live = stack.enter_context(started("benchmarks.wire.live", image))
        sides["gateway"] = live.with_session(initialize(live))
        call(sides["gateway"])
        if given.fastmcp:
            sides["fastmcp proxy"] = stack.enter_context(gateway_peers.fastmcp(given.fastmcp, Path(home)))
        if given.contextforge:
            sides["ContextForge"] = stack.enter_context(gateway_peers.contextforge(given.contextforge, Path(home)))
        report(sides, given.seconds, given.rounds)
        first_calls(live)
        if given.minutes:
            gateway_memory.report(sides["gateway"], given.minutes, lambda s: load(sides["gateway"], 32, s).requests)
    gateway_lists.report()


def report(sides: dict[str, Side], seconds: int, rounds: int) -> None:
    print(
        "| connections | | p50 ms | p99 ms | calls/s | failed | p50 against bare | p99 against bare | calls/s against bare |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for count in CONNECTIONS:
        found: dict[str, list[Load]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                found[name].append(load(side, count, seconds))
        for name, loads in found.items():
            print(row(count, name, loads, found["bare"]))


def row(count: int, name: str, loads: list[Load], bare: list[Load]) -> str:
    """Each round's sides ran one after the other, so their difference is what a change of the machine disturbs least."""
    pairs = list(zip(loads, bare, strict=True))
    p50, p99, rate = (statistics.median(getattr(x, part) for x in loads) for part in ("p50_ms", "p99_ms", "per_second"))
    more50 = statistics.median(x.p50_ms - b.p50_ms for x, b in pairs)
    more99 = statistics.median(x.p99_ms - b.p99_ms for x, b in pairs)
    ratio = statistics.median(x.per_second / b.per_second for x, b in pairs)
    failed = sum(x.failed for x in loads)
    figures = f"{p50:.2f} | {p99:.2f} | {rate:,.0f} | {failed} | {more50:+.2f} | {more99:+.2f} | x {ratio:.2f}"
    return f"| {count} | {name} | {figures} |"


def load(side: Side, connections: int, seconds: int) -> Load:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(HERE / "wire/call.lua")]
    command += [side.url, "--", side.token, side.session, str(connections), side.tool]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Load(next(line for line in done.stdout.splitlines() if line.startswith("RESULT ")))


def first_calls(side: Side) -> None:
    """A new session's first call: from cold (a client that says something new, so no spare fits) and with a spare."""
    cold, warm, later = [], [], []
    for number in range(STARTS):
        fresh = side.with_session(initialize(side, client=f"cold-{number}"))
        cold.append(timed(fresh))
        request(fresh, "DELETE", None)
    for _ in range(STARTS):
        wait_for_spare(side)
        fresh = side.with_session(initialize(side, client="warm"))
        warm.append(timed(fresh))
        later += [timed(fresh) for _ in range(LATER_CALLS)]
        request(fresh, "DELETE", None)
    print("\n| a session's | median ms | slowest ms |")
    print("|---|---|---|")
    print(f"| first call, from cold (starts a sandbox) | {statistics.median(cold):.0f} | {max(cold):.0f} |")
    print(f"| first call, with a spare | {statistics.median(warm):.1f} | {max(warm):.1f} |")
    print(f"| later calls (a connection each) | {statistics.median(later):.2f} | {max(later):.2f} |")


def wait_for_spare(side: Side) -> None:
    """Until the pool has one for this kind of client; the very first of the kind makes the pool know it."""
    for number in range(200):
        mine = [spare for spare in status(side)["pool"]["spares"] if spare["client"] == "warm"]
        if any(spare["ready"] for spare in mine):
            return
        if number == 0:
            call(side.with_session(initialize(side, client="warm")))
        time.sleep(0.1)


def timed(side: Side) -> float:
    began = time.perf_counter()
    call(side)
    return (time.perf_counter() - began) * 1000


def machine() -> str:
    models = [x.partition(":")[2].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    return f"{os.cpu_count()} x {models[0] if models else platform.machine()}, {platform.system()} {platform.release()}"


if __name__ == "__main__":
    main()
