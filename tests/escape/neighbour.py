"""A well-behaved client of the echo server, in a process of its own: calls it steadily and notes how long each took.

``python -m tests.escape.neighbour URL TOKEN`` writes ``usual MEDIAN_MS`` when it knows the usual time, then goes on until
its stdin ends, and writes ``beside MEDIAN_MS WORST_MS CALLS``.
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


async def measure(url: str, token: str) -> None:
    http = Http(urlsplit(url).port or 0, token)
    session = await http.initialize()
    await timed(http, session)
    usual = []
    for _ in range(USUAL_CALLS):
        usual.append(await timed(http, session))
        await asyncio.sleep(PAUSE_S)
    print("usual", statistics.median(usual), flush=True)
    told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    beside = []
    while not told.done() or len(beside) < LEAST_CALLS:
        beside.append(await timed(http, session))
        await asyncio.sleep(PAUSE_S)
    print("beside", statistics.median(beside), max(beside), len(beside), flush=True)


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1], sys.argv[2]))
