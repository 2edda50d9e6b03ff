"""The parent's side of an engine process.  Its death is an error of its own requests, never of the parent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable
from itertools import count
from typing import Any

from runner.engine import wire
from runner.engine.connection import Connection, Inbox
from runner.engine.spec import EngineSpec
from runner.errors import EngineDied, RequestTooLarge, from_dict

STDERR_TAIL = 4096  # bytes that an error shows
LOG_LINES = 1000  # kept for `hm model logs`
# libgomp spins about a millisecond at every barrier, some thousand times a token: on a machine that others use too, a thread
# then burns the time that the one it waits for needs.  With this it sleeps after some 30 us.
SPIN_COUNT = "10000"
GRACE_S = 3.0  # between closing the connection and SIGKILL
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "HM_LOG_FORMAT")
_PREFIXES = ("CUDA_", "HIP_", "ROCR_", "GGML_", "GOMP_", "OMP_", "VK_", "NVIDIA_")


class EngineProcess:
    """
    >>> engine = await EngineProcess.start(EngineSpec("smollm2", ("model.gguf",)))
    >>> async for frame in engine.stream({"op": "generate", "messages": [...]}): ...
    >>> await engine.stop()
    """

    def __init__(self, spec: EngineSpec, process: asyncio.subprocess.Process, on_exit: Callable[[], None]) -> None:
        self.spec = spec
        self.ready: dict[str, Any] = {}
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.logged = 0  # lines in all
        self.kept_bytes = 0  # of its memory, held by finished sequences until others need the room
        self._process, self._on_exit = process, on_exit
        self._ids = count(1)
        self._died: EngineDied | None = None
        self._stopping = False

    @classmethod
    async def start(cls, spec: EngineSpec, *, on_exit: Callable[[], None] = lambda: None) -> EngineProcess:
        """Start a process and load; raises the engine's own error, or ``EngineDied`` with its last words."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "runner.engine",
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment(),
                start_new_session=True,  # Ctrl-C in a terminal is the parent's to handle
            )
        engine = cls(spec, process, on_exit)
        loop = asyncio.get_running_loop()
        _, engine._connection = await loop.create_connection(lambda: Connection(engine.kill), sock=ours)
        engine._tasks = [asyncio.create_task(engine._read_stderr()), asyncio.create_task(engine._mourn())]
        try:
            await engine._handshake()
        except BaseException:
            await engine.stop()
            raise
        return engine

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._died is None and not self._stopping

    @property
    def active(self) -> int:
        """Requests in flight."""
        return len(self._connection.inboxes)

    def resident_bytes(self) -> int:
        return resident_bytes_of(self.pid)

    async def ask(self, frame: dict[str, Any]) -> Any:
        """One request with one answer."""
        async for answer in self.stream(frame):
            if answer["ev"] == "result":
                return answer["value"]
        raise self._death()

    async def stream(self, frame: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """``delta`` frames, then ``done`` (or ``result``); raises what the engine raised.

        Leaving the loop early cancels the request: the engine drops it before its next step.
        """
        if self._died or self._stopping:
            raise self._death()
        request_id = next(self._ids)
        inbox = self._connection.inboxes[request_id] = Inbox()
        ended = False
        try:
            data = wire.encode({**frame, "id": request_id})
            if len(data) > wire.MAX_FRAME:  # the other side would have to end
                ended = True
                raise RequestTooLarge(f"{len(data)} bytes for one request", remedy="send less", limit=wire.MAX_FRAME)
            self._connection.write(data)
            while not ended:
                answer = await inbox.get()
                if answer["ev"] == "died":
                    ended = True
                    raise self._death()
                if answer["ev"] == "error":
                    ended = True
                    raise from_dict(answer["error"])
                ended = answer["ev"] in ("done", "result")
                self.kept_bytes = answer.get("kept_bytes", self.kept_bytes)
                yield answer
        finally:
            del self._connection.inboxes[request_id]
            if not ended and self.alive:
                self._connection.write(wire.encode({"op": "cancel", "id": request_id}))

    async def stop(self) -> None:
        """Close the connection, wait, kill; idempotent."""
        self._stopping = True
        self._connection.close()
        try:
            await asyncio.wait_for(self._process.wait(), GRACE_S)
        except TimeoutError:
            self.kill()
            await self._process.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _handshake(self) -> None:
        inbox = self._connection.inboxes[0] = Inbox()
        self._connection.write(wire.encode(self.spec.as_dict()))
        answer = await inbox.get()
        del self._connection.inboxes[0]
        if answer["ev"] == "error":
            raise from_dict(answer["error"])
        if answer["ev"] != "ready":
            raise self._death()
        self.ready = answer

    async def _mourn(self) -> None:
        """When the connection ends: tell every request, once the process is gone and its last words are read."""
        await self._connection.lost
        try:
            await asyncio.wait_for(self._process.wait(), GRACE_S)
        except TimeoutError:
            self.kill()
            await self._process.wait()
        await asyncio.wait([self._tasks[0]], timeout=1)
        self._died = EngineDied(
            f"the engine of {self.spec.name} {how_it_ended(self._process.returncode)}{last_words(self.log)}",
            remedy="ask again: the model is loaded anew; hm model logs shows what the engine said",
            status=self._process.returncode,
        )
        for inbox in self._connection.inboxes.values():
            inbox.put({"ev": "died"})
        if not self._stopping:
            self._on_exit()

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(65536):
            lines = chunk.decode(errors="replace").splitlines()
            self.log.extend(lines)
            self.logged += len(lines)

    def _death(self) -> EngineDied:
        return self._died or EngineDied(f"the engine of {self.spec.name} was stopped", remedy="ask again")

    _connection: Connection
    _tasks: list[asyncio.Task[None]]


def resident_bytes_of(pid: int) -> int:
    """A process's resident memory now (``/proc/<pid>/statm``, field 2, in pages); 0 where that cannot be read."""
    try:
        with open(f"/proc/{pid}/statm") as f:  # noqa: PTH123
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def environment() -> dict[str, str]:
    """What the libraries need; no secrets of the parent."""
    kept = {k: v for k, v in os.environ.items() if k in _PASSED_ON or k.startswith(_PREFIXES)}
    ours = {"GGML_NO_BACKTRACE": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return {"GOMP_SPINCOUNT": SPIN_COUNT, **kept, **ours}


def how_it_ended(status: int | None) -> str:
    if status is None or status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def last_words(log: deque[str]) -> str:
    tail = "\n".join(log)[-STDERR_TAIL:].strip()
    return f"; it said:\n{tail}" if tail else ""
