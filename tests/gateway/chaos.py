"""Small servers inside the test's own process: hundreds of sandboxes cost nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway.lock import LockedServer
from tests.gateway import backend
from tests.gateway.harness import Exit, World, locked

TOOLS = [backend.tool(name) for name in ("counter", "die", "hang")]
LISTING = backend.listing("inner", tools=TOOLS, prompts=[], resources=[], resourceTemplates=[], instructions="")


class InnerSandbox:
    """The sandbox interface over a server that is a few lines of Python; its answers come a turn of the loop later."""

    def __init__(self, number: int, on_line: Any, on_exit: Any) -> None:
        self.id = self.name = f"inner-{number}"
        self.count = 0
        self.running = True
        self._on_line, self._on_exit = on_line, on_exit
        self._loop = asyncio.get_running_loop()

    def write(self, line: bytes) -> None:
        for each in line.splitlines():
            body = json.loads(each)
            if "id" in body:
                self._loop.call_soon(self._answer, body)

    def _answer(self, body: dict[str, Any]) -> None:
        result = self._result(body["method"], body.get("params", {}))
        if self.running and result is not None:
            self._on_line(json.dumps({"jsonrpc": "2.0", "id": body["id"], "result": result}).encode())

    def _result(self, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        if method == "initialize":
            info = {"name": "inner", "version": "1"}
            return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}
        if method == "tools/list":
            return {"tools": TOOLS}
        if params.get("name") == "die":
            self.end(9)
        if params.get("name") != "counter":
            return None
        self.count += 1
        return {"content": [{"type": "text", "text": str(self.count)}]}

    def end(self, status: int) -> None:
        if self.running:
            self.running = False
            self._on_exit(Exit(status))

    async def drain(self) -> None:
        """Everything is read at once."""

    def stderr_tail(self) -> str:
        return ""

    def limit_in(self, text: str) -> None:
        """No limits."""

    async def starved(self, waited_s: float) -> None:
        """Never."""

    async def memory_mb(self) -> float | None:
        return 1.0

    async def stop(self, *, grace_s: float = 2.0) -> None:
        await asyncio.sleep(0)
        self.end(0)


class InnerWorld(World):
    """``start_s``: how long a start takes."""

    start_s = 0.0
    most = 0  # at one time

    async def start(self, server: LockedServer, admitted: Any, on_line: Any, on_exit: Any) -> Any:
        await asyncio.sleep(self.start_s)
        box: Any = InnerSandbox(len(self.started), on_line, on_exit)
        self.started.append(box)
        self.most = max(self.most, self.running)
        return box

    @property
    def running(self) -> int:
        return sum(box.running for box in self.started)  # type: ignore[attr-defined]

    @property
    def calls_made(self) -> int:
        """Of ``counter``, by anybody."""
        return sum(box.count for box in self.started)  # type: ignore[attr-defined]


def inner_world(*names: str) -> InnerWorld:
    return InnerWorld({name: locked(name, LISTING) for name in names or ("inner",)})
