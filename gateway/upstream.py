"""One connection to one server in its sandbox: ids, handshake, and what the server says unasked.

JSON-RPC ids and progress tokens are ours upstream and the client's downstream, so neither can collide or be forged.
The connection is single-threaded (the event loop's) and does no waiting of its own except in ``open`` and ``stop``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from gateway import eras
from gateway.calls import NOWHERE, Call
from gateway.errors import BadRequest, CallTimeout, ServerExited, StartFailed, StartTimeout
from gateway.extensions import declares_tasks
from gateway.interceptors.outgoing import notice
from gateway.limits import LIMITS
from gateway.lock import LockedServer
from gateway.messages import NOTIFICATION, RESPONSE, RequestId, decode, encode, kind_of, notification
from gateway.pins import Pins, Report, unreported
from gateway.protocol import METHOD_NOT_FOUND
from gateway.watches import ACKNOWLEDGED, LISTS, Watches, lists_of, unstamp
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.redaction import IN_USE

if TYPE_CHECKING:
    from gateway.pool_lease import Lease

log = logging.getLogger("gateway.upstream")

COUNTERS_S = 1.0  # the engine reads them in milliseconds; a late answer is not worth more waiting
DEFAULT_POST_S = 30.0  # how long an unwatched request stays in the table


class Sandbox(Protocol):
    """What the gateway needs of a running sandbox (``sandbox.sandbox.Sandbox``)."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    def write(self, line: bytes) -> None: ...
    async def drain(self) -> None: ...
    def stderr_tail(self) -> str: ...
    def limit_in(self, text: str) -> HarbourError | None: ...
    async def starved(self, waited_s: float) -> HarbourError | None: ...
    async def memory_mb(self) -> float | None: ...
    async def stop(self, *, grace_s: float = 2.0) -> None: ...


class Exit(Protocol):
    """Why a sandbox ended (``sandbox.sandbox.Exit``)."""

    @property
    def status(self) -> int | None: ...
    @property
    def oom(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def limit(self) -> HarbourError | None: ...


OnLine = Callable[[bytes], None]
OnExit = Callable[[Exit], None]
SandboxStarter = Callable[[LockedServer, Any, OnLine, OnExit], Awaitable[Sandbox]]


class Peer(Protocol):
    """The client side of a connection: who the server is talking to."""

    version: str
    client_info: dict[str, Any]
    capabilities: dict[str, Any]
    log_level: str | None

    def server_notified(self, upstream: Upstream, body: dict[str, Any]) -> None: ...
    def server_asked(self, upstream: Upstream, body: dict[str, Any]) -> None: ...
    def server_withdrew(self, upstream: Upstream, params: dict[str, Any]) -> None: ...


class Upstream:
    def __init__(
        self, server: LockedServer, peer: Peer, loop: asyncio.AbstractEventLoop, report: Report = unreported
    ) -> None:
        self.server = server
        self.peer = peer
        self.loop = loop
        self.modern = eras.is_modern(server.listing["protocolVersion"])
        self.pending: dict[int, Call] = {}
        self.capabilities: dict[str, Any] = server.listing.get("capabilities") or {}
        self.server_info: dict[str, Any] = server.listing.get("serverInfo") or {}
        self.log_level: str | None = None
        self.ended: HarbourError | None = None
        self.told = False  # whether a call failed because of the end, so that the client knows of it
        self.settled = False
        self.lease: Lease | None = None  # whose connection this is, once somebody has it
        self.subscriptions: set[str] = set()
        self.tasks: dict[str, float] = {}  # id -> until when the sandbox is kept for it
        self.asked_tasks: set[str] = set()  # that the client makes for the server's questions
        self.declares_tasks = declares_tasks(server)
        self._task_tokens: dict[int, RequestId] = {}  # ours -> the client's progress token, for as long as its task
        self.pins = Pins(self, report)
        self._watches = Watches(loop)
        self._sandbox: Sandbox | None = None
        self._next_id = 1
        self._garbled = 0
        self._start_timeout = DEFAULT_POST_S
        self._instructions: Any = None
        self._junk = 0  # lines that are no messages, since the last answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines: list[bytes] = []  # to be written before the loop waits again

    @property
    def sandbox_id(self) -> str:
        return self._sandbox.id if self._sandbox is not None else ""

    @property
    def version(self) -> str:
        """The revision that is spoken with the server."""
        return eras.LATEST_MODERN_VERSION if self.modern else self.peer.version

    async def open(self, starter: SandboxStarter, admitted: Any, timeout: float, *, settle: bool = True) -> None:
        """Start the sandbox and shake hands; raises ``StartFailed``, ``StartTimeout``, or what the starter raises.

        ``settle``: false leaves out the last step of the handshake, after which a server may ask its client things.
        """
        self._start_timeout = timeout
        try:
            async with asyncio.timeout(timeout):
                self._sandbox = await starter(self.server, admitted, self.on_line, self.on_exit)
                await self._greet(timeout)
                if settle:
                    self.settle()
        except TimeoutError:
            raise StartTimeout(
                f"{self.server.name} did not finish its handshake within {timeout:g} s",
                remedy=f"see what it printed: hm sandbox logs {self.server.name}",
            ) from None

    async def _greet(self, timeout: float) -> None:
        if self.modern:
            reply = await self.request("server/discover", self.with_envelope({}, self.peer.capabilities, None), timeout)
        else:
            hello = {
                "protocolVersion": self.peer.version,
                "capabilities": self.peer.capabilities,
                "clientInfo": self.peer.client_info,
            }
            reply = await self.request("initialize", hello, timeout)
        result = reply.get("result")
        if not isinstance(result, dict):
            reason = (reply.get("error") or {}).get("message", "no result")
            raise StartFailed(f"{self.server.name} refused the handshake: {reason}", remedy="try another version of it")
        if isinstance(result.get("capabilities"), dict):
            self.capabilities = result["capabilities"]
        if isinstance(result.get("serverInfo"), dict):
            self.server_info = result["serverInfo"]
        self._instructions = result.get("instructions")

    def settle(self) -> None:
        """The handshake's end: the server may speak from now on, and is compared with its lock."""
        self.settled = True
        if not self.modern:
            self.notify("notifications/initialized", None)
            if self.peer.log_level is not None:
                self.set_level(self.peer.log_level)
        elif lists := lists_of(self.capabilities):
            self.watch(LISTS, lists)
        self.pins.begin(self._instructions)

    def adopt(self, peer: Peer) -> None:
        """``peer`` takes the place of whoever was greeted in its name: it promises the server exactly the same."""
        self.peer = peer
        if not self.settled:
            self.settle()
        elif peer.log_level is not None:
            self.set_level(peer.log_level)

    def with_envelope(
        self, params: dict[str, Any], capabilities: dict[str, Any], log_level: str | None
    ) -> dict[str, Any]:
        """``params`` as a modern server wants them, on behalf of a handshake client, which knows nothing of its tasks."""
        meta = {
            **params.get("_meta", {}),
            eras.PROTOCOL_VERSION_META_KEY: eras.LATEST_MODERN_VERSION,
            eras.CLIENT_INFO_META_KEY: self.peer.client_info,
            eras.CLIENT_CAPABILITIES_META_KEY: eras.without_tasks(capabilities),
        }
        if log_level is not None:
            meta[eras.LOG_LEVEL_META_KEY] = log_level
        return {**params, "_meta": meta}

    # -- towards the server

    def send(self, call: Call, body: dict[str, Any]) -> None:
        """Send the request ``body`` (altered: its id and progress token become ours) on behalf of ``call``."""
        if self.ended is not None:
            raise self.ended
        ours = self._new_id()
        call.upstream = self
        call.upstream_id = ours
        body["id"] = ours
        meta = body.get("params", {}).get("_meta")
        if isinstance(meta, dict) and "progressToken" in meta:
            if call.progress_token is None:  # a retry's token is already ours
                call.progress_token = meta["progressToken"]
            meta["progressToken"] = ours
        self.pending[ours] = call
        try:
            self._write(encode(body))
        except HarbourError:
            del self.pending[ours]
            raise

    @property
    def has_tasks(self) -> bool:
        now = self.loop.time()
        return any(until > now for until in self.tasks.values())

    def keep_task(self, name: str, call: Call, until: float) -> None:
        """``call`` became a task: its progress goes on after its answer (2025-11-25, "Task Progress")."""
        self.tasks = {**{k: v for k, v in self.tasks.items() if v > self.loop.time()}, name: until}
        if call.progress_token is not None:
            self._task_tokens[call.upstream_id] = call.progress_token
            while len(self._task_tokens) > LIMITS.tasks_per_client:
                del self._task_tokens[next(iter(self._task_tokens))]

    def _new_id(self) -> int:
        ours = self._next_id
        self._next_id = ours + 1
        return ours

    def watch(self, key: str, wanted: dict[str, Any]) -> asyncio.Future[bool]:
        """Have a modern server tell of changes (``wanted``: the filter) until ``unwatch``; whether it agrees."""
        known = self._watches.get(key)
        if known is None:
            ours = self._new_id()
            known = self._watches.add(key, ours)
            params = self.with_envelope({"notifications": wanted}, self.peer.capabilities, None)
            body = {"jsonrpc": "2.0", "id": ours, "method": "subscriptions/listen", "params": params}
            self._lenient(self._write, encode(body))
            if self.ended is not None:
                self._watches.close()
        return known.agreed

    def watch_resource(self, uri: str) -> asyncio.Future[bool]:
        return self.watch(uri, {"resourceSubscriptions": [uri]})

    def unwatch(self, key: str) -> None:
        ours = self._watches.remove(key)
        if ours is not None:
            self.notify("notifications/cancelled", {"requestId": ours, "reason": "nobody listens any more"})

    async def request(self, method: str, params: dict[str, Any], timeout: float) -> dict[str, Any]:
        """A request of the gateway's own; the response body."""
        call = Call(self.loop, method, NOWHERE, timeout)
        self.send(call, {"jsonrpc": "2.0", "id": 0, "method": method, "params": params})
        return await call.turn

    async def list_page(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One page of a list, for comparison with the lock."""
        asked = self.with_envelope(params, self.peer.capabilities, None) if self.modern else params
        return await self.request(method, asked, self._start_timeout)

    def post(self, method: str, params: dict[str, Any]) -> None:
        """A request whose answer nobody waits for."""
        call = Call(self.loop, method, NOWHERE, DEFAULT_POST_S)
        self._lenient(self.send, call, {"jsonrpc": "2.0", "id": 0, "method": method, "params": params})

    def set_level(self, level: str) -> None:
        if "logging" in self.capabilities and not self.modern:
            self.log_level = level
            self.post("logging/setLevel", {"level": level})

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        self._lenient(self._write, notification(method, params))

    def answer(self, server_id: RequestId, body: dict[str, Any]) -> None:
        """Give the server the client's response (``result`` or ``error`` of ``body``) to its request."""
        self._lenient(self._write, encode({**body, "jsonrpc": "2.0", "id": server_id}))

    def _lenient(self, write: Callable[..., None], *args: Any) -> None:
        """A server that is gone need not hear what nobody waits for."""
        with contextlib.suppress(HarbourError):
            write(*args)

    def refuse(self, server_id: RequestId, code: int, message: str) -> None:
        self.answer(server_id, {"error": {"code": code, "message": message}})

    def cancel(self, call: Call, reason: str) -> None:
        """Stop waiting for ``call`` and tell the server so."""
        if self.pending.pop(call.upstream_id, None) is None:
            return
        for question in call.questions.values():
            self.refuse(question.server_id, METHOD_NOT_FOUND, "the call was cancelled")
        self.notify("notifications/cancelled", {"requestId": call.upstream_id, "reason": reason})

    def _write(self, line: bytes) -> None:
        """Write at once while one call is in flight; of many in one turn of the loop, make one write."""
        if self.ended is not None or self._sandbox is None:
            return
        if len(self.pending) < 2 and not self._lines:
            self._sandbox.write(line + b"\n")
            return
        self._lines.append(line)
        if len(self._lines) == 1:
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if self.ended is not None or self._sandbox is None:
            return
        try:
            self._sandbox.write(b"\n".join(lines) + b"\n")
        except HarbourError as e:  # closed, or it has long stopped reading
            self.end(e)

    # -- from the server

    def on_line(self, line: bytes) -> None:
        """Take one line; nothing that a server says may raise into the event loop."""
        try:
            body = decode(line)
            kind = kind_of(body)
        except BadRequest:
            self._garbage(line)
            return
        try:
            self._heard(kind, body)
        except Exception:
            log.exception("%s said something that could not be passed on (dropped)", self.server.name)

    def _heard(self, kind: int, body: dict[str, Any]) -> None:
        if kind == RESPONSE:
            ours = body["id"]
            call = self.pending.pop(ours, None) if type(ours) is int else None
            if call is not None:
                self._junk = 0
                call.settle(body)
            elif self.modern and type(ours) is int:
                self._watches.ended(ours)
        elif kind == NOTIFICATION:
            self._notified(body)
        elif body["method"] == "ping":
            self.answer(body["id"], {"result": {}})
        else:
            self.peer.server_asked(self, body)

    def on_exit(self, exit: Exit) -> None:
        if exit.limit is not None:
            self.end(exit.limit)
            return
        why = "ran out of memory" if exit.oom else exit.reason or f"exited with status {exit.status}"
        self.end(ServerExited(f"{self.server.name} ended: {why}", remedy="call again; a fresh sandbox will be started"))

    def end(self, error: HarbourError) -> None:
        """Fail whatever waits; nothing is sent any more."""
        if self.ended is None:
            self.ended = error
            waiting, self.pending = self.pending, {}
            self.told = any(call.outlet is not NOWHERE for call in waiting.values())
            for call in waiting.values():
                call.fail(error)
            self._watches.close()

    async def stop(self) -> None:
        self.end(ServerExited(f"{self.server.name} was stopped", remedy="call again"))
        if self._sandbox is not None:
            await self._sandbox.stop(grace_s=LIMITS.stop_grace_s)

    def _notified(self, body: dict[str, Any]) -> None:
        method, params = body["method"], body.get("params", {})
        if method == "notifications/progress":
            self._progressed(body, params)
        elif method == "notifications/cancelled":
            self.peer.server_withdrew(self, params)
        elif self.modern and method == ACKNOWLEDGED:
            self._watches.acknowledged(params)
        else:
            self.pins.doubt(method)
            unstamp(params)
            self.peer.server_notified(self, body)

    def _progressed(self, body: dict[str, Any], params: dict[str, Any]) -> None:
        ours = params.get("progressToken")
        call = self.pending.get(ours) if type(ours) is int else None
        if call is not None and call.progress_token is not None:
            call.touch(self.loop.time())
            params["progressToken"] = call.progress_token
            call.outlet.push(notice(body))
        elif call is None and type(ours) is int and ours in self._task_tokens:
            params["progressToken"] = self._task_tokens[ours]
            self.peer.server_notified(self, body)

    def _garbage(self, line: bytes) -> None:
        """Some servers print to stdout; the protocol forbids it, and dropping such a line harms nobody."""
        self._garbled += 1
        self._junk += 1
        if self._junk > LIMITS.junk_lines:
            reason = f"{self.server.name} wrote {LIMITS.junk_lines} lines to stdout that are no messages"
            self.end(ServerExited(reason, remedy="its messages go to stdout and all else to stderr: tell its author"))
        if self._garbled == 1:
            shown = IN_USE.redact(
                line.decode("utf-8", "backslashreplace")
            )  # before the cut: half a secret matches nothing
            log.warning("%s writes to stdout what is not a message (dropped): %.80r", self.server.name, shown)

    # -- housekeeping, called by the sweeper

    def sweep(self, now: float) -> None:
        for call in list(self.pending.values()):
            if call.deadline <= now:
                self.cancel(call, "timed out")
                task = self.loop.create_task(self._time_out(call))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif now - call.started >= LIMITS.sweep_s:
                call.outlet.watch()

    async def _time_out(self, call: Call) -> None:
        """Say why: a server held back by its sandbox is told apart from one that is slow."""
        why: HarbourError | None = CallTimeout(
            f"{self.server.name} did not answer {call.method} within {call.timeout:g} s",
            remedy="try again, or raise call_timeout_s",
        )
        try:
            async with asyncio.timeout(COUNTERS_S):
                if self._sandbox is not None:
                    why = await self._sandbox.starved(call.timeout) or why
        except TimeoutError:
            log.debug("the engine gave no counters of %s in time", self.server.name)
        finally:
            assert why is not None
            call.fail(why)

    def limit_in(self, text: str) -> HarbourError | None:
        """The limit of its sandbox that the server's error ``text`` speaks of."""
        return self._sandbox.limit_in(text) if self._sandbox is not None else None

    async def memory_mb(self) -> float | None:
        """What its sandbox occupies; None where the engine cannot say."""
        return await self._sandbox.memory_mb() if self._sandbox is not None else None
