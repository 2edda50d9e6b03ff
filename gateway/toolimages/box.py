"""Stands where a sandbox does (``gateway.upstream.Sandbox``) for a server that is nothing but tool images.

It answers in the server's place from the lock, and starts one sandbox for each call through the very starter that starts
servers: the same image admission, profile, egress, secrets and records.  Such a server is ``ephemeral: call``, so a box
serves one call of one client, takes its place in the caps, and ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.errors import BadRequest, ServerChanged
from gateway.interceptors.schemas import ToolSchemas, check_arguments
from gateway.lock import LockedServer
from gateway.messages import REQUEST, RequestId, decode, error_message, kind_of, result_message
from gateway.protocol import INVALID_PARAMS, METHOD_NOT_FOUND
from gateway.upstream import Exit, OnExit, OnLine, Sandbox, SandboxStarter
from harbourmaster.core.errors import HarbourError
from registry.oneshot import Output, words

STOP_S: Final = 0.5  # a program whose answer nobody wants is not asked twice
_OWN: Final = ("tools", "values", "config", "ephemeral")  # of ``run``: for us, not for the sandbox


@dataclass(frozen=True)
class _Over:
    reason: str
    limit: HarbourError | None = None
    status: int | None = None
    oom: bool = False


def tool_images(start: SandboxStarter) -> SandboxStarter:
    """``start``, which also takes servers that have an image for each tool."""

    async def either(server: LockedServer, admitted: Any, on_line: OnLine, on_exit: OnExit) -> Sandbox:
        if server.parts:
            return ToolBox(server, admitted, start, on_line, on_exit)
        return await start(server, admitted, on_line, on_exit)

    return either


class ToolBox:
    """``admitted``: ``registry.admit.AdmittedSet``, the verified images by manifest digest."""

    def __init__(
        self, server: LockedServer, admitted: Any, start: SandboxStarter, on_line: OnLine, on_exit: OnExit
    ) -> None:
        self.name = f"tools-{server.name[:40]}-{secrets.token_hex(4)}"
        self._server = server
        self._admitted = admitted
        self._start = start
        self._on_line = on_line
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._calls: dict[RequestId, asyncio.Task[None]] = {}
        self._running: Sandbox | None = None
        self._over = False

    # -- the sandbox's interface

    @property
    def id(self) -> str:
        """The sandbox of the call, once it has one; the audit's records of both meet in it."""
        return self._running.id if self._running is not None else self.name

    def write(self, line: bytes) -> None:
        for each in line.split(b"\n"):
            if each and not self._over:
                self._hear(decode(each))

    async def drain(self) -> None:
        """Nothing is kept waiting: what was written is read already."""

    def stderr_tail(self) -> str:
        return self._running.stderr_tail() if self._running is not None else ""

    def limit_in(self, text: str) -> HarbourError | None:
        return self._running.limit_in(text) if self._running is not None else None

    async def starved(self, waited_s: float) -> HarbourError | None:
        return await self._running.starved(waited_s) if self._running is not None else None

    async def memory_mb(self) -> float | None:
        return await self._running.memory_mb() if self._running is not None else 0.0

    async def stop(self, *, grace_s: float = 2.0) -> None:
        calls = list(self._calls.values())
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls)
        if self._running is not None:  # a call that was cancelled twice did not wait for its end
            await self._running.stop(grace_s=min(grace_s, STOP_S))
        if not self._over:
            self._over = True
            self._on_exit(_Over("the call is over"))

    # -- in the server's place

    def _hear(self, body: dict[str, Any]) -> None:
        params = body.get("params") or {}
        if kind_of(body) != REQUEST:
            if body.get("method") == "notifications/cancelled":
                self._cancel(params.get("requestId"))
            return
        number, method = body["id"], body["method"]
        if method == "tools/call":
            self._calls[number] = task = self._loop.create_task(self._call(number, params))
            task.add_done_callback(lambda _: self._calls.pop(number, None))
            return
        answers = {"initialize": self._welcome, "ping": _nothing, "tools/list": self._listed}
        if method in answers:
            self._say(result_message(number, answers[method](params)))
        else:
            self._say(error_message(number, BadRequest(f"Method not found: {method}", rpc=METHOD_NOT_FOUND)))

    def _welcome(self, params: Mapping[str, Any]) -> dict[str, Any]:
        said = self._server.listing
        welcome: dict[str, Any] = {
            key: said[key] for key in ("capabilities", "serverInfo", "instructions") if key in said
        }
        return {"protocolVersion": params.get("protocolVersion", said["protocolVersion"]), **welcome}

    def _listed(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"tools": self._server.listing["tools"]}

    def _cancel(self, number: Any) -> None:
        call = self._calls.get(number)
        if call is not None:
            call.cancel()

    def _say(self, line: bytes) -> None:
        """Later, as a server would: who asked is still busy asking."""
        self._loop.call_soon(self._on_line, line)

    # -- a call

    async def _call(self, number: RequestId, params: Mapping[str, Any]) -> None:
        try:
            answer = result_message(number, await self._run(params))
        except HarbourError as e:
            answer = error_message(number, e)
        if not self._over:
            self._on_line(answer)

    async def _run(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Raises what the arguments are refused for, what starting raises, and the limit that ended the program."""
        server, admitted = self._variant(params)
        ended: asyncio.Future[Exit] = self._loop.create_future()
        full = asyncio.Event()
        output = Output(full.set)
        box = self._running = await self._start(server, admitted, output.line, ended.set_result)
        try:
            await self._first(ended, full)
        finally:
            if not ended.done():
                await asyncio.shield(box.stop(grace_s=STOP_S))
        end = ended.result()
        if end.limit is not None and not output.overflowed:
            raise end.limit
        return output.result(end.status, end.reason, box.stderr_tail())

    async def _first(self, ended: asyncio.Future[Exit], full: asyncio.Event) -> None:
        """Until the program ends, or has printed more than anyone will read."""
        watch = self._loop.create_task(full.wait())
        try:
            await asyncio.wait((ended, watch), return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    def _variant(self, params: Mapping[str, Any]) -> tuple[LockedServer, Any]:
        """The server as this call runs it, and its admitted image.  Raises ``BadRequest``, ``ArgumentsInvalid``, ``WordsRefused``."""
        server, name = self._server, params.get("name")
        tool = server.run["tools"].get(name) if isinstance(name, str) else None
        listed = next((t for t in server.listing["tools"] if t["name"] == name), None)
        if tool is None or listed is None:
            raise BadRequest(f"Unknown tool: {name}", rpc=INVALID_PARAMS)
        arguments = params.get("arguments") or {}
        check_arguments(ToolSchemas(listed), arguments, str(name), lenient=False)
        admitted = self._admitted.images.get(tool["image"])
        if admitted is None:
            raise ServerChanged(
                f"{server.name}: the image of {name} is not one that was verified",
                remedy="look at the change and accept it: hm lock diff, hm lock update",
                server=server.name,
            )
        run = {key: value for key, value in server.run.items() if key not in _OWN}
        run |= {"command": words(tool["command"], arguments, server.run.get("values") or {}), "one_shot": True}
        run |= {"user": tool["user"]} if tool.get("user") else {}
        return replace(server, image=tool["image"], image_id=admitted.image_id, run=run), admitted


def _nothing(params: Mapping[str, Any]) -> dict[str, Any]:
    return {}
