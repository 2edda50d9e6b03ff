"""What a remote server says it offers, asked of it by connecting: the listing that the lock will hold it to.

The modern era is tried first, where the transport has it; a server that does not know it is asked the older way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from gateway import eras
from gateway.drift import LISTS
from gateway.errors import BadRequest, ServerExited
from gateway.limits import LIMITS
from gateway.messages import REQUEST, RESPONSE, decode, encode, kind_of
from gateway.protocol import METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION
from gateway.remote.errors import LoginRequired, RemoteFailed, RemoteForbidden
from gateway.upstream import Exit, OnExit, OnLine, Sandbox
from harbourmaster.core.errors import HarbourError, LimitError, RefusedError

CLIENT_INFO: Final = {"name": "harbourmaster", "version": "1"}
# Everything that clients may offer: servers show some tools only to clients that can serve them, and the listing is of all
CAPABILITIES: Final[dict[str, Any]] = {
    "roots": {"listChanged": True},
    "sampling": {},
    "elicitation": {"form": {}, "url": {}},
}
PROBE_S: Final = 15.0  # for an answer in the era that is tried first: some servers of the other never give one
_KEPT: Final = ("serverInfo", "capabilities", "instructions")

Start = Callable[[str, OnLine, OnExit], Awaitable[Sandbox]]  # (revision, ...): a connection that speaks it


async def listing_of(name: str, start: Start, timeout_s: float, *, modern: bool = True) -> dict[str, Any]:
    """Every list of the server, all pages.  Raises what connecting raises, or ``RemoteFailed``.

    ``modern``: whether the transport has that era.
    """
    if modern:
        try:
            return await _listed(name, start, eras.LATEST_MODERN_VERSION, min(timeout_s, PROBE_S))
        except (LoginRequired, RefusedError, LimitError) as e:
            if not isinstance(e, RemoteForbidden):
                raise
        except HarbourError:
            pass  # it does not know the era; if it is not there at all, the next attempt says so
    return await _listed(name, start, eras.LATEST_HANDSHAKE_VERSION, timeout_s)


async def _listed(name: str, start: Start, version: str, timeout_s: float) -> dict[str, Any]:
    talk = Conversation(name, version, timeout_s)
    box = await start(version, talk.on_line, talk.on_exit)
    talk.box = box
    try:
        about = await talk.greet()
        listing = {"protocolVersion": about.get("protocolVersion", version)}
        listing |= {key: about[key] for key in _KEPT if about.get(key)}
        offered = about.get("capabilities") or {}
        for part, (capability, method, _) in LISTS.items():
            listing[part] = await talk.pages(method, part) if capability in offered else []
        return listing
    finally:
        await box.stop(grace_s=2.0)


class Conversation:
    """A few requests, one after another.  Nobody is here whom the server could ask anything."""

    box: Sandbox

    def __init__(self, name: str, version: str, timeout_s: float) -> None:
        self._name = name
        self._modern = eras.is_modern(version)
        self._version = version
        self._timeout = timeout_s
        self._next = 1
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._ended: HarbourError | None = None

    async def greet(self) -> dict[str, Any]:
        if self._modern:
            about = self._checked("server/discover", await self._discover())
            if self._version not in (about.get("supportedVersions") or ()):
                raise self._failed("does not speak this revision")
            meta = about.get("_meta") or {}
            return {**about, "serverInfo": meta.get(eras.SERVER_INFO_META_KEY) or about.get("serverInfo")}
        hello = {"protocolVersion": self._version, "capabilities": CAPABILITIES, "clientInfo": CLIENT_INFO}
        about = await self._result("initialize", hello)
        if about.get("protocolVersion") not in eras.HANDSHAKE_PROTOCOL_VERSIONS:
            raise self._failed("speaks no revision that we know")
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return about

    async def _discover(self) -> dict[str, Any]:
        """Asked once more when the server says that it does speak this revision."""
        body = await self.request("server/discover", {})
        error = body.get("error") or {}
        known = (error.get("data") or {}).get("supported") or ()
        if error.get("code") == UNSUPPORTED_PROTOCOL_VERSION and self._version in known:
            body = await self.request("server/discover", {})
        return body

    async def pages(self, method: str, key: str) -> list[Any]:
        items: list[Any] = []
        cursor: Any = None
        for _ in range(LIMITS.list_pages):
            body = await self.request(method, {} if cursor is None else {"cursor": cursor})
            if (body.get("error") or {}).get("code") == METHOD_NOT_FOUND:
                return []
            page = self._checked(method, body).get(key)
            if not isinstance(page, list):
                raise self._failed(f"answered {method} without {key}")
            items += page
            before, cursor = cursor, body["result"].get("nextCursor")
            if cursor is None:
                return items
            if cursor == before or len(items) > LIMITS.list_items:
                break
        raise self._failed(f"does not come to an end with {method}")

    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The response, a result or an error."""
        if self._ended is not None:
            raise self._ended
        self._answer = asyncio.get_running_loop().create_future()
        if self._modern:
            params = {**params, "_meta": self._envelope()}
        self._write({"jsonrpc": "2.0", "id": self._next, "method": method, "params": params})
        try:
            async with asyncio.timeout(self._timeout):
                return await self._answer
        except TimeoutError:
            raise self._failed(f"did not answer {method} within {self._timeout:g} s") from None
        finally:
            self._next += 1

    def on_line(self, line: bytes) -> None:
        try:
            body = decode(line)
            kind = kind_of(body)
        except BadRequest:
            return
        if kind == RESPONSE and body["id"] == self._next and self._answer is not None and not self._answer.done():
            self._answer.set_result(body)
        elif kind == REQUEST:
            reply: dict[str, Any] = {"error": {"code": METHOD_NOT_FOUND, "message": "nobody is here to answer"}}
            if body["method"] in ("ping", "roots/list"):
                reply = {"result": {} if body["method"] == "ping" else {"roots": []}}
            self._write({"jsonrpc": "2.0", "id": body["id"], **reply})

    def on_exit(self, exit: Exit) -> None:
        self._ended = exit.limit or ServerExited(f"{self._name} ended: {exit.reason}", remedy="try again")
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(self._ended)

    def _envelope(self) -> dict[str, Any]:
        return {
            eras.PROTOCOL_VERSION_META_KEY: self._version,
            eras.CLIENT_INFO_META_KEY: CLIENT_INFO,
            eras.CLIENT_CAPABILITIES_META_KEY: CAPABILITIES,
        }

    async def _result(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return self._checked(method, await self.request(method, params))

    def _checked(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        result = body.get("result")
        refusal = getattr(self.box, "refusal", None)
        if not isinstance(result, dict) and isinstance(refusal, HarbourError):
            raise refusal
        if not isinstance(result, dict):
            error = body.get("error")
            said = str(error.get("message", "") if isinstance(error, dict) else "no result")[:500]
            raise self._failed(f"refused {method}: {said}")
        return result

    def _write(self, body: dict[str, Any]) -> None:
        self.box.write(encode(body) + b"\n")

    def _failed(self, what: str) -> RemoteFailed:
        return RemoteFailed(f"{self._name} {what}", remedy="is the address right? tell its author")
