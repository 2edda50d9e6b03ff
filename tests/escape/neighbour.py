"""A well-behaved client of the echo server, in a process of its own: calls it steadily and notes how long each took.

``python -m tests.escape.neighbour URL TOKEN`` writes ``usual MEDIAN_MS`` when it knows the usual time, then goes on until
its stdin ends, takes the usual time once more, and writes ``beside MEDIAN_MS WORST_MS CALLS USUAL_AFTER_MS``.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from urllib.parse import urlsplit

from tests.gateway.harness import Http, tool_call

USUAL_CALLS = 150
PAUSE_S = 0.02
LEAST_CALLS = 25


async def timed(http: Http, session: str) -> float:
    """Milliseconds of one call, which must be answered rightly."""
    began = time.perf_counter()
    reply = await http.call(session, "tools/call", tool_call("echo", {"text": "calm"}))
    elapsed = (time.perf_counter() - began) * 1000
    assert reply["result"]["content"][0]["text"] == "calm", reply
    return elapsed


async def median_of(http: Http, session: str, calls: int) -> float:
    taken = []
    for _ in range(calls):
        taken.append(await timed(http, session))
        await asyncio.sleep(PAUSE_S)
    return statistics.median(taken)


async def measure(url: str, token: str) -> None:
    http = Http(urlsplit(url).port or 0, token)
    session = await http.initialize()
    await timed(http, session)
    print("usual", await median_of(http, session, USUAL_CALLS), flush=True)
    told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    beside = []
    while not told.done() or len(beside) < LEAST_CALLS:
        beside.append(await timed(http, session))
        await asyncio.sleep(PAUSE_S)
    after = await median_of(http, session, USUAL_CALLS)
    print("beside", statistics.median(beside), max(beside), len(beside), after, flush=True)


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1], sys.argv[2]))
