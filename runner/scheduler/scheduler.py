"""The one owner of engines: loads, lends, evicts, unloads.  Every change happens on the event loop's thread.

A request for a model that is not loaded waits, in a bounded and fair queue, until there is room.  Loading belongs to
the scheduler, not to the request that caused it: the client may go away and the model still comes up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from harbourmaster.core.errors import HarbourError
from runner.engine.client import EngineProcess
from runner.engine.spec import EngineSpec
from runner.errors import LoadFailed, NoRoom, QueueDeadline, QueueFull
from runner.scheduler import policy

log = logging.getLogger(__name__)

MAX_WAITING = 512  # requests, as Ollama's default queue
WAIT_S = 300.0  # a request may wait this long for its model
RETRY_AFTER_S = 10
MAX_LOADED = 8
MAX_FINISHED = 100  # evictions and unloads that are remembered


class LoadedEngine(Protocol):
    """What a loaded model is to the scheduler and to the APIs: ``EngineProcess``, or ``RemoteEngine``."""

    spec: EngineSpec
    ready: dict[str, Any]
    log: deque[str]
    logged: int

    @property
    def alive(self) -> bool: ...

    @property
    def pid(self) -> int: ...

    def resident_bytes(self) -> int: ...

    def stream(self, frame: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]: ...

    async def ask(self, frame: dict[str, Any]) -> Any: ...

    async def stop(self) -> None: ...


@dataclass(frozen=True)
class Plan:
    """What loading a model means."""

    key: str  # model ID and settings: what differs is another engine
    name: str
    spec: EngineSpec
    bytes: int  # measured before, or estimated
    keep_alive: float = policy.IDLE_S
    pinned: bool = False


@dataclass
class _Entry:
    plan: Plan
    bytes: int
    last_used: float
    engine: LoadedEngine | None = None
    active: int = 0
    task: asyncio.Task[None] | None = None
    error: HarbourError | None = None
    loaded_s: float = 0.0
    going: bool = False

    def view(self) -> policy.Loaded:
        p = self.plan
        return policy.Loaded(
            p.key, p.name, self.bytes, self.active, self.last_used, p.keep_alive, p.pinned, self.engine is None
        )


@dataclass
class _Waiter:
    plan: Plan
    client: str
    arrived: float
    future: asyncio.Future[_Entry]


@dataclass(frozen=True)
class Departure:
    name: str
    why: str
    at: float  # seconds since the epoch
    freed: int


@dataclass
class Scheduler:
    available: Callable[[], int]
    start_engine: Callable[..., Awaitable[LoadedEngine]] = EngineProcess.start
    on_measured: Callable[[Plan, int], None] = lambda plan, measured: None
    most: int = MAX_LOADED
    clock: Callable[[], float] = time.monotonic
    departures: deque[Departure] = field(default_factory=lambda: deque(maxlen=MAX_FINISHED))
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _waiting: list[_Waiter] = field(default_factory=list)
    _timer: asyncio.TimerHandle | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _closing: bool = False

    @contextlib.asynccontextmanager
    async def use(self, plan: Plan, *, client: str = "", wait_s: float = WAIT_S) -> AsyncIterator[LoadedEngine]:
        """The model's engine, loaded and held for the time of the block.

        Raises ``QueueFull``, ``QueueDeadline``, ``NoRoom`` or what loading raised.
        """
        entry = await self._acquire(plan, client, wait_s)
        try:
            assert entry.engine is not None
            yield entry.engine
        finally:
            entry.active -= 1
            entry.last_used = self.clock()
            if entry.engine and not entry.active:  # work has touched memory that loading had not
                entry.bytes = max(entry.bytes, entry.engine.resident_bytes())
            self._advance()

    async def _acquire(self, plan: Plan, client: str, wait_s: float) -> _Entry:
        entry = self._entries.get(plan.key)
        if entry and self._usable(entry) and not self._someone_starves():
            entry.active += 1
            entry.plan = plan
            return entry
        if len(self._waiting) >= MAX_WAITING:
            raise QueueFull(
                f"{len(self._waiting)} requests already wait for models",
                remedy="try again later",
                retry_after_s=RETRY_AFTER_S,
            )
        waiter = _Waiter(plan, client, self.clock(), asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._advance()
        return await self._wait(waiter, wait_s)

    async def _wait(self, waiter: _Waiter, wait_s: float) -> _Entry:
        taken = False
        try:
            async with asyncio.timeout(wait_s):
                entry = await waiter.future
            taken = True
            return entry
        except TimeoutError:
            raise QueueDeadline(
                f"no room for {waiter.plan.name} within {wait_s:g} s",
                remedy="try again later, or unload a model (hm model unload)",
                retry_after_s=RETRY_AFTER_S,
            ) from None
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            future = waiter.future
            if not taken and future.done() and not future.cancelled() and future.exception() is None:
                future.result().active -= 1  # granted in the moment in which the request went away
                self._advance()

    # -- state changes: all of them end in _advance

    def _advance(self) -> None:
        """Serve whom the present state can serve, in fair order; start and evict what that needs."""
        if self._closing:
            return
        order = policy.fair_order([(w.client, w.arrived) for w in self._waiting])
        blocked = False
        for waiter in [self._waiting[i] for i in order]:
            entry = self._entries.get(waiter.plan.key)
            if entry and self._usable(entry):
                if not (blocked and self._someone_starves()):
                    self._grant(waiter, entry)
            elif entry is None and not blocked:
                blocked = not self._make_room(waiter)
        self._set_timer()

    def _usable(self, entry: _Entry) -> bool:
        return entry.engine is not None and entry.engine.alive and not entry.going

    def _someone_starves(self) -> bool:
        """Has a request waited long for a model that others' requests keep out?  Then those queue behind it."""
        now = self.clock()
        return any(w.plan.key not in self._entries and now - w.arrived > policy.PATIENCE_S for w in self._waiting)

    def _grant(self, waiter: _Waiter, entry: _Entry) -> None:
        self._waiting.remove(waiter)
        if not waiter.future.done():
            entry.active += 1
            waiter.future.set_result(entry)

    def _make_room(self, waiter: _Waiter) -> bool:
        """False: nobody behind ``waiter`` may load before it, or a large model would never get its turn."""
        views = [e.view() for e in self._entries.values()]
        if any(e.going for e in self._entries.values()):
            return False  # memory is being freed: decide when it is
        decision = policy.decide(waiter.plan.name, waiter.plan.bytes, self.available(), views, most=self.most)
        if isinstance(decision, policy.Load):
            self._load(waiter.plan)
        elif isinstance(decision, policy.Evict):
            for key in decision.keys:
                self._unload(key, f"evicted: {decision.why}")
            return False
        elif isinstance(decision, policy.Never):
            self._waiting.remove(waiter)
            if not waiter.future.done():
                waiter.future.set_exception(NoRoom(decision.why, remedy="use a smaller model or context"))
        return not isinstance(decision, policy.Wait)

    def _load(self, plan: Plan) -> None:
        entry = self._entries[plan.key] = _Entry(plan, plan.bytes, self.clock())
        entry.task = self._spawn(self._start(entry))

    async def _start(self, entry: _Entry) -> None:
        began = self.clock()
        try:
            engine = await self.start_engine(entry.plan.spec, on_exit=lambda: self._engine_ended(entry))
        except HarbourError as e:
            self._load_failed(entry, e)
        except OSError as e:
            self._load_failed(entry, LoadFailed(f"no process for {entry.plan.name}: {e}", remedy="see hm doctor"))
        else:
            entry.engine, entry.loaded_s, entry.last_used = engine, self.clock() - began, self.clock()
            entry.bytes = engine.resident_bytes() or entry.bytes
            self.on_measured(entry.plan, entry.bytes)
            self._advance()

    def _load_failed(self, entry: _Entry, error: HarbourError) -> None:
        self._entries.pop(entry.plan.key, None)
        for waiter in [w for w in self._waiting if w.plan.key == entry.plan.key]:
            self._waiting.remove(waiter)
            if not waiter.future.done():
                waiter.future.set_exception(error)
        self._advance()

    def _engine_ended(self, entry: _Entry) -> None:
        """It died by itself: its requests have their error already; the next request loads it again."""
        if self._entries.get(entry.plan.key) is entry:
            del self._entries[entry.plan.key]
            self._remember(entry, "its process died")
            self._advance()

    def _unload(self, key: str, why: str) -> asyncio.Task[None] | None:
        entry = self._entries.get(key)
        if entry is None or entry.engine is None or entry.going:
            return None
        entry.going = True
        log.info("unloading %s: %s", entry.plan.name, why)
        return self._spawn(self._stop(entry, why))

    async def _stop(self, entry: _Entry, why: str) -> None:
        assert entry.engine is not None
        self.on_measured(entry.plan, entry.bytes)
        await entry.engine.stop()
        if self._entries.get(entry.plan.key) is entry:
            del self._entries[entry.plan.key]
        self._remember(entry, why)
        self._advance()

    def _remember(self, entry: _Entry, why: str) -> None:
        self.departures.append(Departure(entry.plan.name, why, time.time(), entry.bytes))

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        moment = policy.next_expiry(e.view() for e in self._entries.values() if not e.going)
        if moment is not None:
            self._timer = asyncio.get_running_loop().call_later(max(moment - self.clock(), 0) + 0.001, self._expire)

    def _expire(self) -> None:
        for key in policy.expired([e.view() for e in self._entries.values()], self.clock()):
            self._unload(key, f"idle for {self._entries[key].plan.keep_alive:g} s")
        self._set_timer()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- for people

    def status(self) -> list[dict[str, Any]]:
        now = self.clock()
        return [
            {
                "key": e.plan.key,
                "name": e.plan.name,
                "bytes": e.bytes,
                "active": e.active,
                "loading": e.engine is None,
                "idle_s": 0.0 if e.active else now - e.last_used,
                "keep_alive_s": e.plan.keep_alive,
                "pinned": e.plan.pinned,
                "backend": "openai" if e.plan.spec.url else e.plan.spec.backend,
                "load_s": e.loaded_s,
                "context": e.engine.ready.get("context") if e.engine else None,
                "pid": e.engine.pid if e.engine else None,
                "kept": getattr(e.engine, "kept_bytes", 0),  # another server's engine does not tell
            }
            for e in self._entries.values()
        ]

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def engines(self) -> list[LoadedEngine]:
        return [e.engine for e in self._entries.values() if e.engine]

    async def unload(self, keys: list[str] | None = None, *, force: bool = False, why: str = "asked to") -> int:
        """Unload idle models (all, or those named); ``force``: busy ones too.  Returns how many."""
        chosen = [e for e in self._entries.values() if keys is None or e.plan.key in keys]
        tasks = [self._unload(e.plan.key, why) for e in chosen if force or not e.active]
        await asyncio.gather(*(t for t in tasks if t))
        return sum(1 for t in tasks if t)

    async def close(self) -> None:
        self._closing = True
        if self._timer:
            self._timer.cancel()
        for waiter in self._waiting:
            waiter.future.cancel()
        for entry in list(self._entries.values()):
            if entry.task and not entry.task.done():
                entry.task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await entry.task
            if entry.engine:
                await entry.engine.stop()
        self._entries.clear()
