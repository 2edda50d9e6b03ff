"""Holds one running server to its lock: what it lists is compared before anything that it lists is used.

Lists are served from the lock, so a changed description reaches no client; here a call to what changed is refused.
Tools and prompts are compared as soon as the handshake is done, while the first call waits; resources when first used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from gateway import sdk
from gateway.drift import INSTRUCTIONS, LISTS, Drift, compare, compare_instructions
from gateway.errors import PinChanged, PinUnverified
from gateway.limits import LIMITS
from gateway.lock import LockedServer
from gateway.protocol import METHOD_NOT_FOUND
from harbourmaster.core.errors import HarbourError

# What a listing is taken with (registry.session.CAPABILITIES): a client without one of these may be shown less.
FULL_CAPABILITIES: Final = frozenset({"roots", "sampling", "elicitation"})

_EAGER: Final = ("tools", "prompts")
_RESOURCES: Final = ("resources", "resourceTemplates")
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "tools/call": ("tools",),
    "prompts/get": ("prompts",),
    "resources/read": _RESOURCES,
    "resources/subscribe": _RESOURCES,
    "completion/complete": ("prompts", *_RESOURCES),
}
_ANNOUNCED: Final[Mapping[str, tuple[str, ...]]] = {
    "notifications/tools/list_changed": ("tools",),
    "notifications/prompts/list_changed": ("prompts",),
    "notifications/resources/list_changed": _RESOURCES,
}
_WORDS: Final = {"tools": "the tool", "prompts": "the prompt", "resources": "the resource"}

Report = Callable[[LockedServer, str, Drift], None]  # (server, sandbox id, what differs)


def unreported(server: LockedServer, sandbox: str, drift: Drift) -> None:
    """For connections whose differences concern nobody."""


class Connection(Protocol):
    """What is needed of ``gateway.upstream.Upstream``."""

    server: LockedServer
    loop: asyncio.AbstractEventLoop
    capabilities: dict[str, Any]
    ended: HarbourError | None

    @property
    def version(self) -> str: ...
    @property
    def sandbox_id(self) -> str: ...
    async def list_page(self, method: str, params: dict[str, Any]) -> dict[str, Any]: ...


class Pins:
    """``clean``: the methods that need no look, because all that they can name is as it was locked."""

    def __init__(self, connection: Connection, report: Report) -> None:
        self.clean: set[str] = {"resources/unsubscribe"}
        self._connection = connection
        self._report = report
        self._tasks: dict[str, asyncio.Task[Drift]] = {}
        self._filled: tuple[str, ...] = tuple(connection.server.run.get("filled", ()))

    def begin(self, instructions: Any) -> None:
        """The handshake is done: start to compare."""
        self._tell(compare_instructions(self._connection.server.listing.get(INSTRUCTIONS), instructions, self._filled))
        for part in _EAGER:
            self._begin(part)

    def doubt(self, method: str) -> None:
        """The server says that a list changed: what was found is worth nothing; the next call that needs it looks again."""
        for part in _ANNOUNCED.get(method, ()):
            self._tasks.pop(part, None)
            self.clean -= {m for m, parts in _PARTS.items() if part in parts}

    async def require(self, method: str, name: str, capabilities: Mapping[str, Any]) -> None:
        """Let a call to ``name`` pass, or raise ``PinChanged``; ``PinUnverified`` when the server does not list.

        ``capabilities``: the client's; a server may show less to a client that offers less.
        """
        parts = _PARTS.get(method, ())
        drifts = [await self._drift(part) for part in parts]
        if any(_changed(drift, name) for drift in drifts):
            raise self._refusal(parts[0], name, "is not what was locked")
        if capabilities.keys() >= FULL_CAPABILITIES:
            for drift in drifts:
                if drift.part in _EAGER and name in drift.missing:
                    await self._look_again(drift.part, name)
        if all(part in self._tasks for part in parts) and not any(d.changed or d.missing for d in drifts):
            self.clean.add(method)

    async def _look_again(self, part: str, name: str) -> None:
        """Some servers add tools once they have seen the client: absence is believed at the second look."""
        self._tasks.pop(part, None)
        drift = await self._drift(part)
        if name in drift.missing:
            self._report(self._connection.server, self._connection.sandbox_id, Drift(part, missing=frozenset({name})))
            raise self._refusal(part, name, "was locked and is no longer offered")
        if _changed(drift, name):
            raise self._refusal(part, name, "is not what was locked")

    def _refusal(self, part: str, name: str, what: str) -> PinChanged:
        server = self._connection.server.name
        return PinChanged(
            f"{server}: {_WORDS[part]} {name} {what}, so it is held",
            remedy=f"look at the change, then accept it or not: hm lock diff {server}",
            server=server,
        )

    async def _drift(self, part: str) -> Drift:
        for _ in range(LIMITS.list_rounds):
            task = self._tasks.get(part) or self._begin(part)
            drift = await asyncio.shield(task)
            if self._tasks.get(part) is task:
                break
        return drift

    def _begin(self, part: str) -> asyncio.Task[Drift]:
        task = self._connection.loop.create_task(self._compare(part))
        self._tasks[part] = task
        task.add_done_callback(lambda done: self._forget_failure(part, done))
        return task

    def _forget_failure(self, part: str, task: asyncio.Task[Drift]) -> None:
        """Retrieved, so that a failure nobody waits for is not an unhandled error; the next call asks again."""
        if (task.cancelled() or task.exception() is not None) and self._tasks.get(part) is task:
            del self._tasks[part]

    async def _compare(self, part: str) -> Drift:
        server = self._connection.server
        locked = server.listing.get(part) or []
        if part not in _EAGER and not locked:
            return Drift(part)
        same = self._connection.version == server.listing.get("protocolVersion")
        drift = compare(part, locked, await self._pages(part), same_version=same, filled=self._filled)
        self._tell(drift)
        return drift

    def _tell(self, drift: Drift) -> None:
        if drift.telling:  # what is missing may be missing for this client alone
            found = replace(drift, missing=frozenset())
            self._report(self._connection.server, self._connection.sandbox_id, found)

    async def _pages(self, part: str) -> list[Any]:
        """All pages; none where the server does not offer them."""
        capability, method, _ = LISTS[part]
        if capability not in self._connection.capabilities:
            return []
        items: list[Any] = []
        params: dict[str, Any] = {}
        for _ in range(LIMITS.list_pages):
            result = await self._page(part, method, params)
            page = result.get(part, [])
            if not isinstance(page, list):
                raise self._unverified(part, f"its answer has no {part}")
            items += page
            params = {"cursor": result.get("nextCursor")}
            if params["cursor"] is None:
                return items
            if len(items) > LIMITS.list_items:
                break
        raise self._unverified(part, "the list does not end")

    async def _page(self, part: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
        try:
            reply = await self._connection.list_page(method, params)
        except HarbourError as e:
            if self._connection.ended is not None:
                raise
            raise self._unverified(part, e.message) from e
        result, error = reply.get("result"), reply.get("error")
        if isinstance(result, dict):
            return result
        code = error.get("code") if isinstance(error, dict) else None
        if code == METHOD_NOT_FOUND or part not in _EAGER:
            return {}
        raise self._unverified(part, f"it answered with error {code}")

    def _unverified(self, part: str, why: str) -> PinUnverified:
        name = self._connection.server.name
        return PinUnverified(
            f"{name} did not list its {part}, so nothing shows that they are what was locked: {why}",
            remedy="call again; if it stays so, see: hm sandbox logs " + name,
            server=name,
        )


def _changed(drift: Drift, name: str) -> bool:
    if name in drift.changed:
        return True
    return drift.part == "resourceTemplates" and any(sdk.template_matches(t, name) for t in drift.changed)
