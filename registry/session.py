"""A short conversation with one server in a sandbox: enough of MCP to list it and to call a tool."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

from registry.build.container import printable
from registry.build.errors import ListingFailed
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.sandbox import Exit, Sandbox
from sandbox.spec import SandboxSpec

PROTOCOL_VERSION = "2025-11-25"  # the newest handshake revision: every stdio server of today speaks it or an older one
CLIENT_INFO = {"name": "harbourmaster", "version": "1"}
# Everything that clients may offer: servers show some tools only to clients that can serve them, and the listing is of all.
CAPABILITIES = {"roots": {"listChanged": True}, "sampling": {}, "elicitation": {}}
MAX_MESSAGE = 2000  # characters of a server's own error that are kept
METHOD_NOT_FOUND = -32601  # JSON-RPC 2.0, section 5.1


class RpcError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Session:
    """Usage: ``async with open_session(engine, profile, spec, timeout_s=60) as s: await s.request("tools/list", {})``."""

    def __init__(self, server: str, timeout_s: float) -> None:
        self.server = server
        self.initialized: dict[str, Any] = {}  # the result of initialize
        self.lists_changed = False  # the server said so since this was last cleared
        self._timeout = timeout_s
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._box: Sandbox | None = None
        self._ended: ListingFailed | None = None

    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Raises ``RpcError`` for the server's own error, ``ListingFailed`` when it ends or does not answer in time."""
        if self._ended:
            raise self._ended
        number = next(self._ids)
        self._waiting[number] = answer = asyncio.get_running_loop().create_future()
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        try:
            body = await asyncio.wait_for(answer, self._timeout)
        except TimeoutError:
            raise self._failed(f"did not answer {method} within {self._timeout:g} s") from None
        finally:
            self._waiting.pop(number, None)
        if "error" in body:
            error = body["error"] if isinstance(body["error"], dict) else {}
            code = error.get("code")
            text = printable(str(error.get("message", "")))[:MAX_MESSAGE]
            raise RpcError(code if isinstance(code, int) else 0, text)
        result = body.get("result")
        if not isinstance(result, dict):
            raise self._failed(f"answered {method} with neither a result nor an error")
        return result

    async def handshake(self) -> None:
        params = {"protocolVersion": PROTOCOL_VERSION, "capabilities": CAPABILITIES, "clientInfo": CLIENT_INFO}
        try:
            self.initialized = await self.request("initialize", params)
        except RpcError as e:
            raise self._failed(f"refused to initialize: {e.message}") from e
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def on_line(self, line: bytes) -> None:
        try:
            body = json.loads(line)
        except ValueError:
            return  # some servers print a greeting on stdout; it is no message
        if not isinstance(body, dict):
            return
        if "method" in body:
            self.lists_changed |= str(body["method"]).endswith("/list_changed")
            self._answer(body)
        elif (waiting := self._waiting.get(body.get("id", 0))) is not None and not waiting.done():
            waiting.set_result(body)

    def on_exit(self, end: Exit) -> None:
        self._ended = ListingFailed(
            f"{self.server} ended ({end.reason or 'no reason'}, status {end.status}):\n{end.stderr[-2000:]}",
            remedy="run it by hand with: docker run --rm -i --read-only --tmpfs /tmp --network none",
            server=self.server,
        )
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(self._ended)

    def use(self, box: Sandbox) -> None:
        self._box = box

    @property
    def box(self) -> Sandbox:
        assert self._box is not None
        return self._box

    def _answer(self, body: dict[str, Any]) -> None:
        """The server's own requests: nobody is here to ask, and there are no roots."""
        if "id" not in body:
            return
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": body["id"]}
        if body["method"] == "ping":
            reply["result"] = {}
        elif body["method"] == "roots/list":
            reply["result"] = {"roots": []}
        else:
            reply["error"] = {"code": METHOD_NOT_FOUND, "message": "nobody is here to answer"}
        self._send(reply)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._box is not None
        self._box.write(json.dumps(message, ensure_ascii=False).encode() + b"\n")

    def _failed(self, what: str) -> ListingFailed:
        tail = self._box.stderr_tail()[-2000:] if self._box else ""
        return ListingFailed(
            f"{self.server} {what}\n{tail}".rstrip(), remedy="see its stderr above", server=self.server
        )


@contextlib.asynccontextmanager
async def open_session(
    engine: Engine, profile: Profile, spec: SandboxSpec, *, timeout_s: float
) -> AsyncIterator[Session]:
    """Start the server in a sandbox, shake hands, and remove the sandbox afterwards, whatever happens."""
    session = Session(spec.server, timeout_s)
    box = await Sandbox.start(engine, profile, spec, on_line=session.on_line, on_exit=session.on_exit)
    try:
        session.use(box)
        await session.handshake()
        yield session
    finally:
        await box.stop(grace_s=0.2)
