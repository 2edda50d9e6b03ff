"""What sandboxes write to stderr, shown as it comes: redacted, harmless to a terminal, never slowing a server down."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sys
import threading
from collections.abc import Mapping

from sandbox.attach import attach
from sandbox.engine import Engine, failures
from sandbox.text import redact, secret_values, visible

MAX_PENDING = 64 * 1024  # of a line that does not end, shown in pieces
MAX_QUEUED = 256  # chunks that wait for a slow reader of our output; more are dropped


async def follow(engine: Engine, sandboxes: Mapping[str, str], secrets: tuple[str, ...] = ()) -> None:
    """Until all end.  ``sandboxes``: container ID -> name, which stands before each line where there are several."""
    lines: queue.Queue[str | None] = queue.Queue(MAX_QUEUED)
    threading.Thread(target=_write_all, args=(lines,), daemon=True).start()
    several = len(sandboxes) > 1
    await asyncio.gather(
        *(_follow(engine, c, f"{name}  " if several else "", secrets, lines) for c, name in sandboxes.items())
    )
    await asyncio.to_thread(lines.put, None)
    await asyncio.to_thread(lines.join)


async def _follow(
    engine: Engine, container: str, mark: str, more: tuple[str, ...], lines: queue.Queue[str | None]
) -> None:
    with failures("inspect the sandbox"):
        variables = engine.api.inspect_container(container)["Config"]["Env"] or ()
    secrets = secret_values([(v.partition("=")[0], v.partition("=")[2]) for v in variables], frozenset(), more)
    over = asyncio.Event()
    pending = bytearray()

    def show(chunk: bytes, *, last: bool = False) -> None:
        """Whole lines, so that a secret cut by a read is redacted too."""
        pending.extend(chunk)
        whole = len(pending) if last or len(pending) > MAX_PENDING else pending.rfind(b"\n") + 1
        text = visible(redact(pending[:whole].decode("utf-8", "backslashreplace"), secrets))
        del pending[:whole]
        # A reader who stopped reading must not stop us: the engine would stall the server, and even its removal.
        with contextlib.suppress(queue.Full):
            lines.put_nowait("".join(mark + line for line in text.splitlines(keepends=True)))

    await attach(engine, container, on_line=lambda _: None, on_stderr=show, on_end=lambda _: over.set(), stdin=False)
    await over.wait()
    show(b"", last=True)


def _write_all(lines: queue.Queue[str | None]) -> None:
    """To stdout, at its reader's pace; what comes while the queue is full is dropped."""
    while (text := lines.get()) is not None:
        sys.stdout.write(text)
        sys.stdout.flush()
        lines.task_done()
    lines.task_done()
