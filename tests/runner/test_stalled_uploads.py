"""Archives whose senders stop in the middle: they keep no more threads than the runner allows them."""

from __future__ import annotations

import asyncio
from typing import Any

from harbourmaster.core.settings import Settings
from runner.api.app import create_app
from runner.api.docker import UPLOADS
from runner.service import Runner

HOST = (b"host", b"127.0.0.1:12434")


class Upload:
    """One POST /models/load, of which the first bytes came and then nothing."""

    def __init__(self, app: Any) -> None:
        self.status: int | None = None
        self._leave, self._begun = asyncio.Event(), False
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/models/load", "raw_path": b"/models/load", "query_string": b"", "root_path": "",
            "headers": [HOST, (b"content-type", b"application/x-tar")],
            "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 12434),
        }  # fmt: skip
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._begun:
            self._begun = True
            return {"type": "http.request", "body": b"x" * 100, "more_body": True}
        await self._leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]

    async def over(self) -> int | None:
        await asyncio.wait_for(asyncio.gather(self._task, return_exceptions=True), 10)
        return self.status

    async def leave(self) -> None:
        self._leave.set()
        await self.over()


async def test_stalled_archives_leave_threads_for_everyone_else(settings: Settings) -> None:
    app = create_app(Runner.open(settings))
    stalled = [Upload(app) for _ in range(UPLOADS)]
    await asyncio.sleep(0.2)
    assert [await Upload(app).over() for _ in range(50)] == [429] * 50
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "a thread is free"), 5)
    for upload in stalled:
        assert upload.status is None
        await upload.leave()
    after = Upload(app)  # their places are free again
    await asyncio.sleep(0.2)
    assert after.status is None
    await after.leave()
