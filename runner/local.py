"""A model for one command, without a server: load, answer, unload."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

from runner.chat.job import ChatJob, Text
from runner.chat.toolcalls import chat
from runner.service import Runner


class LocalChat:
    """
    >>> with LocalChat(runner, "smollm2") as local:
    ...     for piece in local.chat([{"role": "user", "content": "Hi"}], {}): ...
    """

    def __init__(self, runner: Runner, model: str) -> None:
        self._runner, self._plan = runner, runner.plan(model, keep_alive_s=-1.0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="runner", daemon=True)

    def __enter__(self) -> LocalChat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.scheduler.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def chat(self, messages: list[dict[str, Any]], options: dict[str, Any]) -> Iterator[str]:
        pieces: queue.Queue[str | BaseException | None] = queue.Queue()
        job = ChatJob(messages, options, tool_choice="none")
        work = asyncio.run_coroutine_threadsafe(self._answer(job, pieces), self._loop)
        try:
            while (piece := pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            work.cancel()

    async def _answer(self, job: ChatJob, pieces: queue.Queue[str | BaseException | None]) -> None:
        try:
            async with self._runner.scheduler.use(self._plan) as engine, aclosing(chat(engine, job)) as events:
                async for event in events:
                    if isinstance(event, Text):
                        pieces.put(event.text)
            pieces.put(None)
        except Exception as e:
            pieces.put(e)
