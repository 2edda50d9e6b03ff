"""Clients of both eras, each with a connection of its own that it keeps; what a call ended in is a value."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, NamedTuple

from tests.gateway.harness import Http, enveloped, rpc, tool_call

PATIENCE_S: Final = 240.0  # that only a failure reaches


class Ending(NamedTuple):
    """Of one call: the server's words, or the code of a clear error."""

    text: str = ""
    code: str = ""


class Client:
    """``server`` is the one whose tools it calls."""

    def __init__(self, http: Http, server: str, number: int) -> None:
        self.server, self.number = server, number
        self._http = http
        self._ids = 0

    async def __aenter__(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._http.port)
        await self.greet()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.leave()
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def greet(self) -> None:
        raise AssertionError("a client is of one era or the other")

    async def leave(self) -> None:
        """Clients without a session have nothing to end."""

    def twin(self) -> Client:
        """The same client on another connection, for a call beside another; use it while this one is there."""
        return type(self)(self._http, self.server, self.number)

    async def call(self, tool: str, **arguments: Any) -> Ending:
        body = await self.ask("tools/call", tool_call(f"{self.server}__{tool}", arguments))
        if "error" in body:
            error = body["error"]
            assert error["message"], error
            return Ending(code=error["data"]["code"])
        return Ending(text=str(body["result"]["content"][0]["text"]))

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        raise AssertionError("a client is of one era or the other")

    # -- HTTP

    async def post(self, body: dict[str, Any], **headers: str | None) -> tuple[dict[str, str], Any]:
        """The answer's headers, and its message if there is one: one object, or the last of a stream."""
        self._ids += 1
        raw = json.dumps({**body, "id": self._ids} if "id" in body else body).encode()
        await self._send("POST", raw, headers)
        told, answer = await self._receive()
        if told.get("content-type") == "text/event-stream":
            answer = [line[6:] for line in answer.splitlines() if line.startswith(b"data: {")][-1]
        message = json.loads(answer) if answer else None
        assert message is None or message["id"] == self._ids, "another's answer"
        return told, message

    async def _send(self, method: str, raw: bytes, headers: dict[str, str | None]) -> None:
        fields = {"Content-Length": str(len(raw)), **self._http.headers(**headers)}
        head = [f"{method} {self._http.path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
        self._writer.write("\r\n".join(head).encode() + raw)
        await self._writer.drain()

    async def _receive(self) -> tuple[dict[str, str], bytes]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head.split("\r\n")[1:])}
        if headers.get("transfer-encoding") == "chunked":
            return headers, await self._chunks()
        return headers, await self._reader.readexactly(int(headers.get("content-length", 0)))

    async def _chunks(self) -> bytes:
        found = b""
        while size := int(await self._reader.readline(), 16):
            found += await self._reader.readexactly(size)
            await self._reader.readline()
        await self._reader.readline()
        return found


class HandshakeClient(Client):
    session = ""
    _lent = False  # the session is the twin's to end

    def twin(self) -> Client:
        other = HandshakeClient(self._http, self.server, self.number)
        other.session, other._lent = self.session, True
        return other

    async def greet(self) -> None:
        if self.session:
            return
        said = {"name": f"handshake-{self.number}", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": said}
        told, message = await self.post(rpc("initialize", params))
        assert "result" in message, message
        self.session = told["mcp-session-id"]

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        _, message = await self.post(rpc(method, params), Mcp_Session_Id=self.session)
        return message

    async def leave(self) -> None:
        if not self._lent:
            await self._send("DELETE", b"", {"Mcp_Session_Id": self.session})
            await self._receive()


class ModernClient(Client):
    async def greet(self) -> None:
        found = await self.ask("server/discover", {})
        assert "result" in found, found

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        said = {"name": f"modern-{self.number}", "version": "1"}
        body = rpc(method, enveloped(params, **{"io.modelcontextprotocol/clientInfo": said}))
        routing = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": params.get("name")}
        _, message = await self.post(body, **routing)
        return message


def client(http: Http, server: str, number: int) -> Client:
    """The eras take turns."""
    return (HandshakeClient if number % 2 else ModernClient)(http, server, number)


@contextlib.asynccontextmanager
async def crowd(http: Http, servers: list[str]) -> AsyncIterator[list[Client]]:
    """A client of each; all are connected before the first may call, and stay until the last has its answers."""
    clients = [client(http, server, number) for number, server in enumerate(servers)]
    async with contextlib.AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(each) for each in clients))
        yield clients


class Load:
    """Everybody does ``work`` at once, in a task of their own; what the calls end in is counted.  ``over``: it is to end."""

    def __init__(self, clients: list[Client], work: Callable[[Client, Load], Coroutine[Any, Any, None]]) -> None:
        self.everybody = {one.number for one in clients}
        self.good: set[int] = set()  # who got an answer
        self.bad: set[int] = set()  # who got an error
        self.codes: Counter[str] = Counter()
        self.over = asyncio.Event()
        self._clients, self._work = clients, work

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._work(one, self)) for one in self._clients]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.over.set()
        await asyncio.gather(*self._tasks)

    def note(self, one: Client, ending: Ending) -> None:
        (self.bad if ending.code else self.good).add(one.number)
        self.codes[ending.code or "ok"] += 1

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for ``condition``, which takes as long as the machine takes, or for what goes wrong with a client."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    done, _ = await asyncio.wait(self._tasks, timeout=0.05, return_when=asyncio.FIRST_EXCEPTION)
                    for task in done:
                        task.result()
        except TimeoutError:
            raise AssertionError(f"{what} did not come about: {self.codes}") from None
