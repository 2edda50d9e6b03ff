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
from gateway.messages import decode
from gateway.principals import ALL_SCOPES, Principal
from gateway.profiles.view import DEFAULT
from gateway.profiles.views import Views
from gateway.sessions import Session

if TYPE_CHECKING:
    from gateway.gateway import Gateway

TOOL: Final = "intercept"


class _Own(Session):
    trusted = True


class SandboxedHook:
    def __init__(self, hook: Hook, gateway: Gateway) -> None:
        self._hook = hook
        self._gateway = gateway
        self._ids = itertools.count(1)
        self._session: Session | None = None

    async def ask(self, question: dict[str, Any]) -> Any:
        """Raises ``HookFailed``."""
        session = self._session or self._opened()
        params = {"name": TOOL, "arguments": question}
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": "tools/call", "params": params}
        message, _ = await self._gateway.router.handshake(session, body, Outlet())
        reply = decode(message)
        result = reply.get("result")
        if not isinstance(result, dict) or result.get("isError") is True:
            raise HookFailed(f"was not answered by its server {self._hook.server}: {_why(reply)}")
        return result.get("structuredContent")

    def _opened(self) -> Session:
        name = self._hook.server
        locked = self._gateway.views.lock.get(name)
        if locked is None:
            raise HookFailed(f"names the server {name}, which is not locked", remedy="see: hm lock show")
        view = Views({name: locked}, {}, {"name": "harbourmaster"}).get(DEFAULT)
        who = Principal(f"interceptor-{self._hook.name}", f"interceptor-{self._hook.name}", ALL_SCOPES)
        session = _Own(who, who.key, asyncio.get_running_loop(), view)
        session.begin({"protocolVersion": eras.LATEST_HANDSHAKE_VERSION, "clientInfo": {"name": who.name}})
        self._session = session
        return session


def _why(reply: dict[str, Any]) -> str:
    error = reply.get("error")
    return str(error.get("message")) if isinstance(error, dict) else "it answered with an error"
