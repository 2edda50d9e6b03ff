"""An interceptor in a sandbox: a locked MCP server whose tool ``intercept`` takes the question and answers as structured
content.  It is admitted, pinned, started and recorded like any server; its calls are not intercepted themselves."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, Final

from gateway import eras
from gateway.calls import Outlet
from gateway.interceptors.config import Hook
from gateway.interceptors.errors import HookFailed
from gateway.lock import LockedServer
from gateway.messages import decode
from gateway.principals import ALL_SCOPES, Principal
from gateway.profiles.view import DEFAULT
from gateway.profiles.views import Views
from gateway.sessions import Session

if TYPE_CHECKING:
    from gateway.gateway import Gateway

TOOL: Final = "intercept"
_FRESH: Final = frozenset(
    {"sandbox.evicted", "gateway.server_exited"}
)  # its sandbox is gone: asked once more, in another


class _Own(Session):
    trusted = True


class SandboxedHook:
    def __init__(self, hook: Hook, gateway: Gateway) -> None:
        self._hook = hook
        self._gateway = gateway
        self._ids = itertools.count(1)
        self._session: Session | None = None
        self._locked: LockedServer | None = None

    async def ask(self, question: dict[str, Any]) -> Any:
        """Raises ``HookFailed``."""
        reply = await self._asked(question)
        if _code(reply) in _FRESH:
            reply = await self._asked(question)
        result = reply.get("result")
        if not isinstance(result, dict) or result.get("isError") is True:
            raise HookFailed(f"was not answered by its server {self._hook.server}: {_why(reply)}")
        return result.get("structuredContent")

    async def _asked(self, question: dict[str, Any]) -> dict[str, Any]:
        params = {"name": TOOL, "arguments": question}
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": "tools/call", "params": params}
        message, _ = await self._gateway.router.handshake(self._current(), body, Outlet())
        reply: dict[str, Any] = decode(message)
        return reply

    def _current(self) -> Session:
        """Another where the server was locked anew: the one before would be held to a lock that is no more."""
        name = self._hook.server
        locked = self._gateway.views.lock.get(name)
        if self._session is not None and locked is self._locked:
            return self._session
        if self._session is not None:
            self._gateway.leases.end_all(self._session)
            self._session = None
        if locked is None:
            raise HookFailed(f"names the server {name}, which is not locked", remedy="see: hm lock show")
        self._locked = locked
        return self._opened(name, locked)

    def _opened(self, name: str, locked: LockedServer) -> Session:
        view = Views({name: locked}, {}, {"name": "harbourmaster"}).get(DEFAULT)
        who = Principal(f"interceptor-{self._hook.name}", f"interceptor-{self._hook.name}", ALL_SCOPES)
        session = _Own(who, who.key, asyncio.get_running_loop(), view)
        session.begin({"protocolVersion": eras.LATEST_HANDSHAKE_VERSION, "clientInfo": {"name": who.name}})
        self._session = session
        return session


def _code(reply: dict[str, Any]) -> str:
    data = (reply.get("error") or {}).get("data")
    return str(data.get("code")) if isinstance(data, dict) else ""


def _why(reply: dict[str, Any]) -> str:
    error = reply.get("error")
    return str(error.get("message")) if isinstance(error, dict) else "it answered with an error"
