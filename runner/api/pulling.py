"""A pull in a thread, told to a client that may go away: then it stops, and the next one goes on from there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator

from runner.errors import Cancelled
from runner.service import Runner
from runner.store import fetch
from runner.store.store import Model

PROGRESS_S = 0.1  # between two words about the same layer, as Docker's

Step = tuple[str, int, int]  # digest, bytes so far, bytes in all


async def pulling(runner: Runner, name: str) -> AsyncGenerator[Step | Model, None]:
    """Steps as they come, at last the model; raises what the pull raised."""
    queue: asyncio.Queue[Step | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    gone = threading.Event()

    def progress(digest: str, current: int, total: int) -> None:
        if gone.is_set():
            raise Cancelled(f"the pull of {name} was cancelled", remedy="pull again: it goes on where it stopped")
        loop.call_soon_threadsafe(queue.put_nowait, (digest, current, total))

    work = asyncio.ensure_future(asyncio.to_thread(fetch.pull, runner.settings, runner.store, name, progress))
    work.add_done_callback(lambda _: queue.put_nowait(None))
    told: dict[str, float] = {}
    try:
        while (step := await queue.get()) is not None:
            digest, current, total = step
            if current == total or loop.time() - told.get(digest, 0.0) >= PROGRESS_S:
                told[digest] = loop.time()
                yield step
        yield await work
    finally:
        gone.set()
        if not work.done():
            work.add_done_callback(lambda w: w.cancelled() or w.exception())  # nobody is left to be told
