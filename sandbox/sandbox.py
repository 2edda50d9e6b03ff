"""One running sandbox: a container of the locked-down profile whose stdio is ours.

create (by image ID) -> attach -> start; then lines in and out on the event loop.  Whatever goes wrong, on any path, the
container is removed; what even that cannot reach carries the labels by which the reaper finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from sandbox import containers, hostpaths, secretfiles, strain
from sandbox.attach import AttachStream, attach
from sandbox.engine import Engine
from sandbox.errors import LimitReached, SandboxClosed
from sandbox.owner import LABEL_HOME, LABEL_IMAGE, LABEL_OWNER, LABEL_SANDBOX, LABEL_SERVER
from sandbox.profile import Profile, container_config, effective_limits, for_podman
from sandbox.spec import SandboxSpec
from sandbox.text import Tail, secret_values

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exit:
    """How a sandbox ended.  ``status``: exit status, 128+n for signal n, None when the engine could not say.
    ``limit``: the limit of the sandbox that ended it, where one did."""

    status: int | None
    oom: bool
    stderr: str
    reason: str
    limit: LimitReached | None = None


class Sandbox:
    """Usage: ``box = await Sandbox.start(engine, profile, spec, on_line=..., on_exit=...)``; ``box.write(line)``."""

    def __init__(self, engine: Engine, spec: SandboxSpec, on_exit: Callable[[Exit], None]) -> None:
        self.name = f"hm-{spec.server[:40]}-{secrets.token_hex(4)}"
        self.id = ""
        self._engine = engine
        self._on_exit = on_exit
        self._secrets = secret_values(spec.env.items(), spec.secret_env, spec.secret_files.values())
        self._has_files = bool(spec.secret_files)
        self._server = spec.server
        self._limits: strain.Limits = {}
        self._paths: list[hostpaths.Checked] = []
        self._stderr = Tail()
        self._stream: AttachStream | None = None
        self._work: Future[Any] | None = None  # the engine call under way, so that a cancelled start can wait for it
        self._ended = asyncio.Event()  # the stream has ended
        self._why = ""
        self._stop: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._stopping = False
        self._running = False

    @classmethod
    async def start(
        cls,
        engine: Engine,
        profile: Profile,
        spec: SandboxSpec,
        *,
        on_line: Callable[[bytes], None],
        on_exit: Callable[[Exit], None],
    ) -> Sandbox:
        """Raises ``SpecRefused``, ``EngineWeak``, ``StartFailed`` or ``EngineFailed``; then, and when cancelled, no
        container is left.  ``on_exit`` is called once, from the event loop, if and only if this returned."""
        box = cls(engine, spec, on_exit)
        try:
            await box._start(profile, spec, on_line)
        except BaseException:
            if box._stream is not None:
                box._stream.abort()
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, box._discard))
            raise
        box._running = True
        if box._ended.is_set():  # it ended before we could hand it over
            box._close()
        return box

    async def _start(self, profile: Profile, spec: SandboxSpec, on_line: Callable[[bytes], None]) -> None:
        self.id = await self._call(self._create, profile, spec)
        self._stream = await attach(
            self._engine,
            self.id,
            on_line=on_line,
            on_stderr=self._stderr.feed,
            on_end=self._stream_ended,
            stdin=spec.is_told,
            keep_rest=spec.one_shot,
        )
        await self._call(self._begin)
        if spec.secret_files:
            with contextlib.suppress(SandboxClosed):  # it ended at once; on_exit tells how
                self._stream.write(secretfiles.preamble(spec.secret_files))
                if spec.one_shot:
                    self._stream.close_stdin()

    def _create(self, profile: Profile, spec: SandboxSpec) -> str:
        """Runs in a worker thread."""
        self._engine.require_enforcement()
        if runtime := spec.runtime or spec.access.runtime:
            self._engine.require_runtime(runtime)
        self._paths = hostpaths.check_all(spec.access.host_paths, spec.access.granted, home=self._engine.home)
        labels = {
            **spec.labels,
            LABEL_SANDBOX: "1",
            LABEL_HOME: self._engine.home_label,
            LABEL_OWNER: self._engine.owner,
            LABEL_SERVER: spec.server,
            LABEL_IMAGE: spec.image,
        }
        facts = self._engine.image_facts(spec.image_id)
        body = container_config(profile, replace(spec, labels=labels), facts)
        if self._engine.info().name == "podman":
            body = for_podman(profile, body)
        self._limits = effective_limits(profile, spec)
        containers.own(self._engine, body, self.name)
        return containers.create(self._engine, body, self.name)

    def _begin(self) -> None:
        """Runs in a worker thread.  The engine resolves a host path when it mounts it, which is now."""
        hostpaths.require_same(self._paths)
        containers.start(self._engine, self.id)
        hostpaths.require_same(self._paths)

    # -- in use

    def write(self, line: bytes) -> None:
        """One JSON-RPC message and its newline.  Raises ``SandboxClosed`` or ``StdinFull``."""
        assert self._stream is not None
        self._stream.write(line)

    async def drain(self) -> None:
        """Wait while more is written than the server has read, up to the high-water mark."""
        assert self._stream is not None
        await self._stream.drain()

    def stderr_tail(self) -> str:
        """The last 64 KiB of stderr, secrets redacted, control characters visible."""
        return self._stderr.text(self._secrets)

    def limit_in(self, text: str) -> LimitReached | None:
        """The limit of this sandbox that the error ``text`` of its server speaks of."""
        return strain.named_in(text, self._server, self._limits)

    async def starved(self, waited_s: float) -> LimitReached | None:
        """Whether its CPU limit is why nothing came for ``waited_s`` seconds.  Raises nothing: who asks has an error
        of its own to report."""
        try:
            stats = await self._call(containers.stats, self._engine, self.id)
        except Exception as e:
            log.debug("no counters of %s: %s", self.name, e)
            return None
        return strain.of_stats(stats, waited_s, self._server, self._limits)

    async def memory_mb(self) -> float | None:
        """What it occupies without the file pages that the kernel can drop, in MB; None when the engine cannot say."""
        try:
            return containers.memory_mb(await self._call(containers.stats, self._engine, self.id))
        except Exception as e:
            log.debug("no counters of %s: %s", self.name, e)
            return None

    # -- the end

    async def stop(self, *, grace_s: float = 2.0) -> None:
        """Close stdin, SIGTERM at half of ``grace_s``, SIGKILL after it, remove.  Idempotent; returns when it is gone."""
        if self._stop is None:
            self._stop = asyncio.get_running_loop().create_task(self._end(grace_s), name=f"stop {self.name}")
        await asyncio.shield(self._stop)  # who waits may be cancelled, the end may not

    async def _end(self, grace_s: float) -> None:
        try:
            if not self._ended.is_set():
                self._stopping = True
                await self._ask_to_end(grace_s)
        finally:
            closing = self._close()
        await asyncio.shield(closing)

    async def _ask_to_end(self, grace_s: float) -> None:
        assert self._stream is not None
        self._stream.close_stdin()
        if await self._ended_within(grace_s / 2):
            return
        await self._call(containers.signal, self._engine, self.id, "SIGTERM")
        await self._ended_within(grace_s / 2)

    async def _ended_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._ended.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _stream_ended(self, reason: str) -> None:
        self._why = self._why or reason
        self._ended.set()
        if self._running:
            self._close()

    def _close(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._finish(), name=f"close {self.name}")
        return self._closing

    async def _finish(self) -> None:
        """Learn how it ended, remove it, tell.  Kills what still runs: without stdout there is nothing left to say."""
        violated = bool(self._why)
        ended_itself = self._ended.is_set() and not violated
        try:
            outcome = await self._call(containers.finish, self._engine, self.id, wait=ended_itself)
        except Exception as e:  # whatever broke here, the session must hear that its server is gone
            log.exception("%s could not be taken down; the reaper will", self.name)
            outcome = containers.Outcome(None, False, f"it could not be taken down: {e}")
        if self._stream is not None:
            self._stream.abort()
        stderr = self.stderr_tail()
        undelivered = secretfiles.explain(outcome.status, stderr) if self._has_files else ""
        reason = self._why or ("stopped" if self._stopping else undelivered or outcome.reason)
        limit = None
        if ended_itself and not self._stopping and not undelivered:
            limit = strain.of_exit(outcome.status, outcome.oom, stderr, self._server, self._limits)
        self._on_exit(Exit(outcome.status, outcome.oom, stderr, reason, limit))

    def _discard(self) -> None:
        """After a failed or cancelled start, in a thread: wait for the call under way, then remove what it made."""
        if self._work is not None and not self._work.cancel():
            self._work.exception()
        containers.remove(self._engine, self.name)

    async def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._work = self._engine.workers.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(self._work)
