"""What the gateway's own tools do.  They are called like any server's (authorized, counted, scanned, recorded by
``gateway.forward``), and the calls that they make for a client go the same way as its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from gateway import eras
from gateway.calls import Call
from gateway.downstream import Downstream
from gateway.dynamic import tools
from gateway.dynamic.conversation import Conversations
from gateway.dynamic.errors import ArgumentInvalid, CodeUnavailable, Nested
from gateway.dynamic.results import failed, said
from gateway.index import Route
from gateway.messages import decode
from gateway.routes import ROUTED
from harbourmaster.core.errors import HarbourError

Forward = Callable[..., Awaitable[tuple[bytes, int]]]  # gateway.forward.Forwarder.forward
Script = Callable[[Downstream, Call, Mapping[str, Any], dict[str, Any]], Awaitable[dict[str, Any]]]
Handler = Callable[[Downstream, Call, dict[str, Any], dict[str, Any]], Awaitable[dict[str, Any]]]

_STATE: Final = "exec:"  # in front of the state of a call within ``mcp-exec``, so that it is not taken for our own


class OwnTools:
    """``await own(client, call, route, params)``: the result.  ``script``: runs ``mcp-code``, None where it is off."""

    def __init__(self, forward: Forward, conversations: Conversations) -> None:
        self._forward = forward
        self.script: Script | None = None
        self._handlers: Mapping[str, Handler] = {
            tools.FIND: lambda client, call, given, params: conversations.find(client, given),
            tools.ADD: conversations.add,
            tools.REMOVE: lambda client, call, given, params: conversations.remove(client, given),
            tools.CONFIG: lambda client, call, given, params: conversations.configure(client, given),
            tools.EXEC: self._exec,
            tools.CODE: self._code,
        }

    async def __call__(self, client: Downstream, call: Call, route: Route, params: dict[str, Any]) -> dict[str, Any]:
        """Raises ``CallCancelled`` when the client gives up; whatever runs for it is cancelled with it."""
        given = params.get("arguments") or {}
        token = (params.get("_meta") or {}).get("progressToken")
        if isinstance(token, str | int):
            call.progress_token = token
        work = client.loop.create_task(self._answer(client, call, route, given, params))
        try:
            await asyncio.wait({work, call.turn}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await call.turn  # raises: it was cancelled
            return work.result()
        finally:
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError, HarbourError):
                    await work

    async def _answer(
        self, client: Downstream, call: Call, route: Route, given: dict[str, Any], params: dict[str, Any]
    ) -> dict[str, Any]:
        try:
            reply = await self._handlers[route.name](client, call, given, params)
        except HarbourError as e:
            call.note(e.code)  # for the audit: to the client it is a tool's answer
            reply = {"result": failed(e)}
        result = reply.get("result")
        if client.modern and isinstance(result, dict):
            result.setdefault("resultType", "complete")
        return {"jsonrpc": "2.0", **reply}

    async def _exec(
        self, client: Downstream, call: Call, given: dict[str, Any], params: dict[str, Any]
    ) -> dict[str, Any]:
        name, arguments = given.get("name"), given.get("arguments")
        inner = {"name": name, "arguments": arguments if arguments is not None else {}}
        for key in ("_meta", "inputResponses"):
            if key in params:
                inner[key] = params[key]
        state = params.get("requestState")
        if isinstance(state, str) and state.startswith(_STATE):
            inner["requestState"] = state.removeprefix(_STATE)
        reply = await self.within(client, call, inner)
        result = reply.get("result")
        if isinstance(result, dict) and isinstance(result.get("requestState"), str):
            result["requestState"] = _STATE + result["requestState"]
        return reply

    async def within(self, client: Downstream, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        """A tool call that is part of ``call``: ``{"result"}`` or ``{"error"}``, as the client would have got it."""
        name = params.get("name")
        if not isinstance(name, str):
            raise ArgumentInvalid("name must be the name of a tool", remedy=f"look for one: {tools.FIND}")
        if client.index.tool(name).server == tools.OURS:
            raise Nested(f"{name} cannot be executed from within another tool", remedy="call it directly")
        body = {
            "jsonrpc": "2.0",
            "id": f"{tools.OURS}-{secrets.token_hex(8)}",
            "method": "tools/call",
            "params": params,
        }
        message, _ = await self._forward(client, body, ROUTED["tools/call"], call.outlet, part_of=call)
        reply = decode(message)
        return {key: reply[key] for key in ("result", "error") if key in reply}

    async def _code(
        self, client: Downstream, call: Call, given: dict[str, Any], params: dict[str, Any]
    ) -> dict[str, Any]:
        if self.script is None:
            raise CodeUnavailable("this gateway has no sandbox for scripts", remedy="build it, once: hm up")
        meta = {key: value for key, value in params.get("_meta", {}).items() if key != "progressToken"}
        if isinstance(able := meta.get(eras.CLIENT_CAPABILITIES_META_KEY), dict):  # a script waits for results
            meta[eras.CLIENT_CAPABILITIES_META_KEY] = eras.without_tasks(able)
        body = await self.script(client, call, given, meta)
        reply = said(body)
        if "error" in body:
            reply["result"]["isError"] = True
        return reply
