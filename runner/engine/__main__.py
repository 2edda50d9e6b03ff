"""The engine's process: ``python -m runner.engine FD``, with a connected Unix socket inherited as FD.

The first frame is the ``EngineSpec``; the answer is ``ready`` or ``error``.  The end of the stream ends the process, so
that no engine outlives its parent.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from harbourmaster.core.errors import HarbourError
from runner.chat.template import ChatTemplate
from runner.engine import wire
from runner.engine.context import Context
from runner.engine.devices import devices, placement
from runner.engine.embedding import Embedder
from runner.engine.limits import Limits
from runner.engine.model import Model
from runner.engine.native import LogFilter, load_library
from runner.engine.pace import Pace
from runner.engine.requests import Event, Stop
from runner.engine.session import Session
from runner.engine.spec import DEFAULT_CONTEXT, EngineSpec
from runner.engine.vision import Vision
from runner.engine.writer import Writer
from runner.errors import EngineFailed, TemplateRefused
from runner.gguf import check_file

# Tokens in a step: two of the tiles of 64 rows in which ggml computes attention. Four cost the same per token, one a tenth more.
ENOUGH_ON_CPU = 128
WATCH_S = 5.0  # between looks at whether a step hangs
SWITCH_S = 0.0005  # the writer must not wait 5 ms (CPython's default) for the main thread to hand over


async def serve(connection: socket.socket) -> int:
    reader, stream = await asyncio.open_connection(sock=connection, limit=wire.MAX_FRAME)

    def send(frames: list[dict[str, Any]]) -> None:
        stream.write(b"".join(wire.encode(f) for f in frames))

    try:
        spec = EngineSpec.parse(wire.decode(await reader.readline()))
        session, ready = load(spec, send)
    except HarbourError as e:
        send([{"id": 0, "ev": "error", "error": e.as_dict()}])
        await stream.drain()
        return 1
    session.writer.start()
    send([ready])
    watching = asyncio.ensure_future(_watch(session.writer.pace))
    ended = asyncio.get_running_loop().run_in_executor(None, session.writer.join)
    reading = asyncio.ensure_future(_read(reader, session))
    await asyncio.wait([reading, ended], return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        return 1  # the writer gave up: the parent replaces this process
    session.writer.mailbox.put(Stop())
    await ended
    watching.cancel()
    return 0


async def _read(reader: asyncio.StreamReader, session: Session) -> None:
    while line := await reader.readline():
        session.on_frame(wire.decode(line))


async def _watch(pace: Pace) -> None:
    """A step that never ends ends the process: its requests get an error, and the next one loads the model again."""
    while True:
        await asyncio.sleep(WATCH_S)
        if wrong := pace.stuck(time.monotonic()):
            sys.stderr.write(f"{wrong}\n")
            sys.stderr.flush()
            os._exit(1)  # the writer's thread cannot be ended


def load(spec: EngineSpec, send: Any) -> tuple[Session, dict[str, Any]]:
    """Everything that can go wrong with a model goes wrong here, before ``ready``."""
    weights = [check_file(Path(path)) for path in spec.paths]  # before the C library sees it
    for path in (*(path for path, _ in spec.loras), *([spec.mmproj] if spec.mmproj else [])):
        check_file(Path(path))
    library = load_library()
    keep_alive.append(log := LogFilter(library))
    place = placement(devices(library), weights, spec)
    spec = replace(spec, gpu_layers=place.gpu_layers)
    model = Model(library, [Path(p) for p in spec.paths], gpu_layers=spec.gpu_layers, loras=spec.loras)
    context = min(spec.context or DEFAULT_CONTEXT, model.facts.train_context or DEFAULT_CONTEXT)
    cells = max(spec.cells, context)
    threads = spec.threads or len(os.sched_getaffinity(0))
    offloads = spec.gpu_layers and library.llama_supports_gpu_offload()
    enough, prompts = (spec.batch, spec.batch) if offloads else (ENOUGH_ON_CPU, 2 * ENOUGH_ON_CPU)
    slots = max(spec.slots, spec.running)
    guesses = spec.speculative if model.facts.shares_prefixes else 0  # a wrong guess is dropped from the end
    limits = Limits(context, cells, spec.running, slots, spec.batch, enough, prompts, guesses, model.idle_cells())
    vision = _vision(spec, model, threads, log)
    embedder = Embedder(model, context=context, threads=threads)
    memory = _context(model, limits, threads)
    # The library rounds the memory up, and a batch down to it; it aborts on a larger one.
    limits = replace(limits, cells=memory.cells, batch=min(limits.batch, memory.most_tokens))
    loop = asyncio.get_running_loop()
    writer = Writer(model, memory, embedder, limits, lambda e: _tell(loop, session, e))
    template, note = _template(spec, model)
    session = Session(model, writer, template, context, send, embedder.limit, vision, limits.batch)
    return session, {
        "id": 0,
        "ev": "ready",
        "facts": vars(model.facts),
        "context": context,
        "cells": limits.cells,
        "batch": limits.batch,
        "running": spec.running,
        "embed_limit": embedder.limit,
        "images": vision is not None,
        "template": template.source if template else "",
        "template_note": note,
        "threads": threads,
        "gpu": bool(library.llama_supports_gpu_offload()),
        "computes": place.words,
        "pid": os.getpid(),
    }


keep_alive: list[Any] = []


def _context(model: Model, limits: Limits, threads: int) -> Context:
    cells = limits.cells if model.facts.generates else min(limits.cells, 512)
    outputs = max(limits.slots, limits.speculative)
    return Context(model, cells=cells, batch=limits.batch, sequences=limits.slots, outputs=outputs, threads=threads)


def _vision(spec: EngineSpec, model: Model, threads: int, log: LogFilter) -> Vision | None:
    if not spec.mmproj:
        return None
    return Vision(model, Path(spec.mmproj), threads=threads, gpu=spec.gpu_layers != 0, log=log)


def _tell(loop: asyncio.AbstractEventLoop, session: Session, events: list[Event]) -> None:
    loop.call_soon_threadsafe(session.on_events, events)


def _template(spec: EngineSpec, model: Model) -> tuple[ChatTemplate | None, str]:
    source = spec.template or model.chat_template()
    if not source:
        return None, "the model has no chat template"
    try:
        return ChatTemplate(source, bos=model.token_text("bos"), eos=model.token_text("eos")), ""
    except TemplateRefused as e:
        return None, e.message


def main() -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # an abort in C must not write gigabytes of core
    sys.setswitchinterval(SWITCH_S)
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        try:
            return uvloop.run(serve(connection))
        except (ConnectionError, EngineFailed) as e:
            sys.stderr.write(f"{e}\n")
            return 1


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # the library's own exit handlers may crash after the context is gone
