"""Servers in containers, from the moment when an engine answers.

A gateway starts without an engine: what runs elsewhere is served, and a call of a server in a container says what is
missing.  Every such call looks for an engine again, so one that appears later is found without a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import requests

from gateway.lock import LockedServer
from gateway.upstream import OnExit, OnLine, SandboxStarter
from harbourmaster.core.errors import EngineError
from sandbox.egress.egress import Egress
from sandbox.engine import Engine
from sandbox.errors import EngineFailed, EngineMissing, EnginePermission

log = logging.getLogger("harbourmaster.compose")

AGAIN_S: Final = 1.0  # how long it is believed that no engine answers: a busy client must not knock for every call
TURN_S: Final = 5.0  # how long a call waits while another is looking

REMEDY: Final = "have the operator start one (hm doctor tells more), and call again: the gateway finds it by itself"

Record = Callable[[dict[str, Any]], None]  # the audit's


@dataclass(frozen=True)
class Parts:
    """What needs an engine.  ``admit``: blocking; (name, relaxed) -> the admitted image."""

    engine: Engine
    admit: Callable[..., Any]
    start: SandboxStarter
    egress: Egress


class Containers:
    """``connect``: blocking; raises ``EngineMissing`` or ``EnginePermission``.  ``fit``: blocking; what is built on an
    engine, once one answers.  ``record``: the audit's.  For threads."""

    def __init__(self, connect: Callable[[], Engine], fit: Callable[[Engine], Parts], record: Record) -> None:
        self._connect, self._fit, self._record = connect, fit, record
        self._turn = threading.Lock()
        self._parts: Parts | None = None
        self._missing: EngineError | None = None
        self._looked = 0.0

    def begin(self) -> EngineError | None:
        """Blocking: look for an engine; why there is none, which is not the end."""
        try:
            self._found()
        except EngineError as e:
            self._record({"kind": "gateway", "event": "engine_missing", "code": e.code})
            return e
        return None

    def admit(self, name: str, relaxed: tuple[str, ...] = ()) -> Any:
        """Blocking.  Raises what admission raises; that there is no engine, or none any more, in words for a caller."""
        with _in_words(name):
            return self._for(name).admit(name, relaxed)

    async def start(self, server: LockedServer, admitted: Any, on_line: OnLine, on_exit: OnExit) -> Any:
        parts = self._parts
        if parts is None:
            parts = await asyncio.to_thread(self._for, server.name)
        with _in_words(server.name):
            return await parts.start(server, admitted, on_line, on_exit)

    async def close(self) -> None:
        if self._parts is not None:
            await self._parts.egress.close()
            await asyncio.to_thread(self._parts.engine.close)

    def _for(self, name: str) -> Parts:
        try:
            return self._found()
        except (EngineMissing, EnginePermission) as e:
            what = "answers here" if isinstance(e, EngineMissing) else "here lets the gateway in"
            raise type(e)(
                f"{name} runs in a container, and no container engine {what}", remedy=REMEDY, server=name
            ) from e

    def _found(self) -> Parts:
        if self._parts is not None:
            return self._parts
        if not self._turn.acquire(timeout=TURN_S):
            raise EngineMissing("a container engine is being looked for", remedy="call again")
        try:
            return self._parts or self._look()
        finally:
            self._turn.release()

    def _look(self) -> Parts:
        now = time.monotonic()
        if self._missing is not None and now - self._looked < AGAIN_S:
            raise self._missing
        before = self._missing
        try:
            engine = self._connect()
        except (EngineMissing, EnginePermission) as e:
            self._missing, self._looked = e, time.monotonic()
            raise
        try:
            self._parts = self._fit(engine)
            if before is not None:
                self._record({"kind": "gateway", "event": "engine_found"})
                log.info("a container engine answers now; servers in containers can be called")
        except BaseException:
            self._parts = None
            engine.close()
            raise
        self._missing = None
        return self._parts


@contextlib.contextmanager
def _in_words(name: str) -> Iterator[None]:
    """An engine that was there and does not answer any more: what the SDK says of that is no caller's business."""
    try:
        yield
    except EngineFailed as e:
        if not isinstance(e.__cause__, requests.ConnectionError):
            raise
        log.warning("%s", e.message)
        raise EngineFailed(
            f"{name} runs in a container, and the container engine does not answer any more", remedy=REMEDY, server=name
        ) from e
