"""Custom interceptors: a Python function, an HTTP endpoint, or an MCP server in a sandbox of its own.

Each is given ``{"phase", "principal", "server", "method", "name", "params" | "result"}`` and answers
``{"action": "pass" | "refuse" | "replace", "reason"?, "params" | "result"?}``.  In the order of config.toml before a call,
in the reverse after it.  One that is late, breaks, or answers anything else refuses the call, unless its ``on_error`` is
``pass``.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from gateway.calls import Call
from gateway.index import Route
from gateway.interceptors.config import Hook
from gateway.interceptors.errors import HookFailed, HookRefused, InterceptorsInvalid
from gateway.messages import decode, encode
from harbourmaster.core.errors import HarbourError

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger("gateway.interceptors")

Ask = Callable[[dict[str, Any]], Awaitable[Any]]
MAX_ANSWER = 8 << 20  # bytes, of an HTTP hook


@dataclass(frozen=True)
class Bound:
    hook: Hook
    ask: Ask

    def sees(self, call: Call, route: Route, phase: str) -> bool:
        hook = self.hook
        return (
            hook.when in (phase, "both")
            and call.method in hook.methods
            and any(fnmatchcase(route.server, pattern) for pattern in hook.servers)
        )


class Hooks:
    """``in_sandbox``: makes the asker of a hook that is an MCP server; None where there are no sandboxes."""

    def __init__(self, hooks: Iterable[Hook], in_sandbox: Callable[[Hook], Ask] | None = None) -> None:
        self._client: httpx2.AsyncClient | None = None
        self._bound = tuple(Bound(hook, self._asker(hook, in_sandbox)) for hook in hooks)

    async def before(self, call: Call, route: Route, params: dict[str, Any], principal: str) -> bool:
        """Alter the arguments in ``params``; True when one did.  Raises ``HookRefused``, ``HookFailed``."""
        changed = False
        for bound in self._bound:
            if bound.sees(call, route, "before"):
                said = await self._answer(bound, _question("before", call, route, principal, params=params))
                changed |= said is not None and self._replaced(bound.hook, said, params)
        return changed

    def _replaced(self, hook: Hook, said: dict[str, Any], params: dict[str, Any]) -> bool:
        """Arguments alone: what is called was authorized, and the rest is the protocol's."""
        new = said.get("params")
        arguments = new.get("arguments") if isinstance(new, dict) else None
        if not isinstance(arguments, dict):
            self._broken(hook, "replaces what is no arguments")
            return False
        params["arguments"] = arguments
        return True

    async def after(self, call: Call, route: Route, reply: dict[str, Any], principal: str) -> dict[str, Any]:
        if not isinstance(reply.get("result"), dict):
            return reply
        for bound in reversed(self._bound):
            if bound.sees(call, route, "after"):
                question = _question("after", call, route, principal, result=reply["result"])
                said = await self._answer(bound, question)
                if said is not None and isinstance(said.get("result"), dict):
                    reply = {**reply, "result": said["result"]}
                    call.note(f"hook:{bound.hook.name}:changed-result")
        return reply

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _answer(self, bound: Bound, question: dict[str, Any]) -> dict[str, Any] | None:
        """What replaces the message; None: nothing does."""
        hook = bound.hook
        try:
            async with asyncio.timeout(hook.timeout_s):
                answer = await bound.ask(question)
            action = _action(answer)
        except asyncio.CancelledError:
            raise
        except TimeoutError:
            self._broken(hook, f"did not answer within {hook.timeout_s:g} s")
        except HarbourError as e:
            self._broken(hook, e.message)
        except Exception as e:
            log.warning("interceptor %s failed", hook.name, exc_info=e)
            self._broken(hook, f"failed ({type(e).__name__})")
        else:
            return self._acted(hook, action, answer)
        return None

    def _acted(self, hook: Hook, action: str, answer: dict[str, Any]) -> dict[str, Any] | None:
        if action == "refuse":
            reason = answer.get("reason")
            raise HookRefused(
                f"interceptor {hook.name} refused it: {reason if isinstance(reason, str) else 'without a reason'}",
                remedy=f"ask whoever runs the interceptor {hook.name}",
            )
        return answer if action == "replace" else None

    def _broken(self, hook: Hook, why: str) -> None:
        if hook.on_error == "pass":
            log.warning("interceptor %s %s; the call goes on without it", hook.name, why)
            return
        raise HookFailed(
            f"interceptor {hook.name} {why}, so the call was stopped",
            remedy=f'mend it, or set on_error = "pass" for {hook.name} in [[interceptors.custom]]',
        )

    def _asker(self, hook: Hook, in_sandbox: Callable[[Hook], Ask] | None) -> Ask:
        if hook.python:
            return _python(hook)
        if hook.http:
            return lambda question: self._post(hook, question)
        if in_sandbox is None:
            raise InterceptorsInvalid(f"{hook.name} needs a sandbox, and there are none here", remedy="run: hm up")
        return in_sandbox(hook)

    async def _post(self, hook: Hook, question: dict[str, Any]) -> Any:
        if self._client is None:
            import httpx2  # a tenth of a second, which a gateway without such hooks need not spend

            self._client = httpx2.AsyncClient(follow_redirects=False, trust_env=False)
        async with self._client.stream(
            "POST", hook.http, content=encode(question), headers={"content-type": "application/json"}
        ) as response:
            if response.status_code != 200:
                raise ValueError(f"status {response.status_code}")
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MAX_ANSWER:
                    raise ValueError("its answer is too large")
        return decode(body)


def _python(hook: Hook) -> Ask:
    """A function of one argument; one that is not async runs in a thread."""
    module, _, name = hook.python.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as e:
        raise InterceptorsInvalid(
            f"interceptor {hook.name}: {hook.python} cannot be loaded: {e}", remedy="correct it in config.toml"
        ) from e
    if inspect.iscoroutinefunction(function):
        return function  # type: ignore[no-any-return]
    return lambda question: asyncio.to_thread(function, question)


def _question(phase: str, call: Call, route: Route, principal: str, **body: Mapping[str, Any]) -> dict[str, Any]:
    about = {"phase": phase, "principal": principal, "server": route.server, "method": call.method, "name": route.name}
    return decode(encode({**about, **body}))  # type: ignore[no-any-return]  # a copy: an interceptor owns what it gets


def _action(answer: Any) -> str:
    action = answer.get("action") if isinstance(answer, dict) else None
    if action not in ("pass", "refuse", "replace"):
        raise ValueError("its answer has no action")
    if action == "replace" and not isinstance(answer.get("params", answer.get("result")), dict):
        raise ValueError("it replaces nothing")
    return action  # type: ignore[no-any-return]
