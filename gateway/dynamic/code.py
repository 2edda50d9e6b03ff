"""``mcp-code``: a client's script in a sandbox of its own, which calls tools through this process and nothing else.

Each script has a fresh sandbox with the default profile and no network, and it ends with the script.  What the script
asks for is a call of the client: authorized, counted, scanned and recorded like one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.calls import NOWHERE, Call
from gateway.downstream import Downstream
from gateway.dynamic import program
from gateway.dynamic.errors import ArgumentInvalid, CodeStopped, CodeUnavailable
from gateway.errors import CallTimeout, wire_error
from gateway.leases import Leases
from gateway.lock import LockedServer, pin_of
from gateway.pool_lease import Holder, Lease
from gateway.protocol import METHOD_NOT_FOUND
from gateway.upstream import Upstream
from harbourmaster.core.errors import HarbourError, NotFoundError

CODE_RUNNER: Final = "code-runner"  # no server of this name is ever looked for
SOURCE: Final = Path(program.__file__)

_SCHEMA: Final = {"type": "object", "properties": {"script": {"type": "string"}}, "required": ["script"]}
LISTING: Final[dict[str, Any]] = {  # what gateway/dynamic/program.py says of itself; a test holds the two together
    "protocolVersion": "2025-11-25",
    "serverInfo": {"name": CODE_RUNNER, "version": "1"},
    "capabilities": {"tools": {}},
    "tools": [{"name": "run", "inputSchema": _SCHEMA}],
    "prompts": [],
    "resources": [],
    "resourceTemplates": [],
}

Within = Callable[[Downstream, Call, dict[str, Any]], Awaitable[dict[str, Any]]]  # own.OwnTools.within


@dataclass(frozen=True)
class CodeLimits:
    script_chars: int = 100_000
    calls: int = 100  # of tools, in one script
    at_once: int = 8
    seconds: int = 60  # unless the caller asks for less or more
    most_seconds: int = 300
    output_bytes: int = 64 << 10  # of what it printed and gave back, together


CODE: Final = CodeLimits()


def runner_server(image: str, image_id: str, profile: str) -> LockedServer:
    """The code runner as leases know servers.  ``profile``: digest of the default sandbox profile."""
    run: dict[str, Any] = {"env": {"PYTHONDONTWRITEBYTECODE": "1"}}
    return LockedServer(
        CODE_RUNNER, "built", "1", image, image_id, "", "", profile, pin_of(LISTING), True, LISTING, run
    )


class Scripts:
    """``await scripts(client, call, given)``.  ``server``: blocking; raises when the code runner may not run."""

    def __init__(self, leases: Leases, server: Callable[[], LockedServer], within: Within) -> None:
        self._leases, self._make, self._within = leases, server, within
        self._server: LockedServer | None = None

    async def __call__(
        self, client: Downstream, call: Call, given: Mapping[str, Any], meta: dict[str, Any]
    ) -> dict[str, Any]:
        """``{output, result, error?, calls}``; ``meta``: what the client said about itself.  Raises ``ArgumentInvalid``, ``CodeUnavailable``, ``CodeStopped``."""
        script, seconds = _arguments(given)
        call.whole = True
        server = await self._current()
        holder = ScriptHolder(client, call, meta, self._within)
        try:
            return await self._run(holder, call, server, script, seconds)
        finally:
            holder.close()
            self._leases.end_all(holder)

    async def _run(
        self, holder: ScriptHolder, call: Call, server: LockedServer, script: str, seconds: int
    ) -> dict[str, Any]:
        upstream = await self._leases.open(holder, server, own=True)
        running = Call(upstream.loop, "tools/call", NOWHERE, seconds + 1)
        params = {"name": "run", "arguments": {"script": script}}
        upstream.send(running, {"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": params})
        try:
            async with asyncio.timeout(seconds):
                reply = await asyncio.shield(running.turn)
        except (TimeoutError, CallTimeout):
            raise _too_long(seconds, call.held) from None
        finally:
            if not running.turn.done():
                upstream.cancel(running, "over")
        return _checked(reply, holder.made)

    async def _current(self) -> LockedServer:
        try:
            server = await asyncio.to_thread(self._make)
        except NotFoundError as e:
            raise CodeUnavailable("the code runner is not built here", remedy="build it, once: hm up") from e
        if self._server != server:  # leases know servers by identity
            self._server = server
        assert self._server is not None
        return self._server


class ScriptHolder(Holder):
    """Holds the sandbox of one script, and answers what the script asks for."""

    remembers = False

    def __init__(self, client: Downstream, call: Call, meta: dict[str, Any], within: Within) -> None:
        self.version = "2025-11-25"
        self.client_info: dict[str, Any] = {"name": "harbourmaster", "version": "1"}
        self.capabilities: dict[str, Any] = {}
        self.log_level: str | None = None
        self.leases: dict[str, Lease] = {}
        self.lost: dict[str, HarbourError] = {}
        self.calls = {}
        self.label = client.label
        self.made = 0
        self._client, self._call, self._meta, self._within = client, call, meta, within
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(CODE.at_once)

    def server_notified(self, upstream: Upstream, body: dict[str, Any]) -> None:
        """The runner has nothing to notify of."""

    def server_withdrew(self, upstream: Upstream, params: dict[str, Any]) -> None:
        """A script waits for every answer."""

    def server_asked(self, upstream: Upstream, body: dict[str, Any]) -> None:
        if body["method"] != program.CALL:
            upstream.refuse(body["id"], METHOD_NOT_FOUND, "Method not found")
            return
        self.made += 1
        if self.made > CODE.calls:
            upstream.refuse(body["id"], -32000, f"a script may make {CODE.calls} calls")
            return
        task = self._client.loop.create_task(self._answer(upstream, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, upstream: Upstream, body: dict[str, Any]) -> None:
        given = body.get("params") or {}
        arguments = given.get("arguments")
        params: dict[str, Any] = {"name": given.get("name"), "arguments": arguments, "_meta": dict(self._meta)}
        try:
            async with self._turns:
                reply = await self._within(self._client, self._call, params)
        except HarbourError as e:
            reply = {"error": wire_error(e)}
        if (reply.get("result") or {}).get("resultType") == "input_required":  # of a modern server
            reply = {"error": {"code": -32000, "message": "this tool asks a person; call it with mcp-exec"}}
        with contextlib.suppress(HarbourError):
            upstream.answer(body["id"], reply)

    def close(self) -> None:
        """The script is over: what it still waits for is cancelled."""
        for task in self._tasks:
            task.cancel()


def _arguments(given: Mapping[str, Any]) -> tuple[str, int]:
    script, seconds = given.get("script"), given.get("seconds", CODE.seconds)
    if not isinstance(script, str) or not 0 < len(script) <= CODE.script_chars:
        raise ArgumentInvalid(f"script must be text of at most {CODE.script_chars} characters", remedy="shorten it")
    if type(seconds) is not int or not 1 <= seconds <= CODE.most_seconds:
        raise ArgumentInvalid(f"seconds is from 1 to {CODE.most_seconds}", remedy=f"leave it out: {CODE.seconds}")
    return script, seconds


def _too_long(seconds: int, held: Collection[str]) -> CodeStopped:
    if held:
        return CodeStopped(
            f"the script waited for a person's yes to a call of it, and {seconds} s were over",
            remedy=f"run it again with more seconds, at most {CODE.most_seconds}, and have the call approved meanwhile: "
            "hm approve ls; or make that call alone: mcp-exec",
        )
    return CodeStopped(
        f"the script ran longer than {seconds} s",
        remedy=f"do less at once, or ask for more seconds, at most {CODE.most_seconds}",
    )


def _checked(reply: dict[str, Any], made: int) -> dict[str, Any]:
    """What the runner says of the script; a script can make it say anything, so it is only text and JSON of a size."""
    body = (reply.get("result") or {}).get("structuredContent")
    if not isinstance(body, dict):
        raise CodeStopped("the script ended without an answer", remedy="run it again")
    found = {"output": str(body.get("output") or ""), "result": body.get("result"), "calls": made}
    if body.get("error") is not None:
        found["error"] = str(body["error"])
    size = len(json.dumps(found).encode())
    if size > CODE.output_bytes:
        raise CodeStopped(
            f"the script gave back {size} bytes, and may give {CODE.output_bytes}", remedy="print less; sum up"
        )
    return found
