"""How fast the engine generates, against llama.cpp itself on the same machine, file and minutes.

    python benchmarks/runner.py MODEL.gguf [--streams 1,4,8,16] [--tokens 96] [--threads N] [--json]

Three measurements at each number of streams: ``bare`` is the limit (the C library in a loop that only fills batches and takes the
likeliest token: what ``llama-batched-bench`` measures); ``engine`` is ours, process boundary, text and streaming included; ``high-level`` is
llama-cpp-python's ``Llama`` class, which answers one request at a time. Then the time to first token and what a shared prefix costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # else this file itself would be the package `runner`

import numpy as np  # noqa: E402

from harbourmaster.core.settings import Settings  # noqa: E402
from runner.api.app import create_app  # noqa: E402
from runner.engine.client import EngineProcess  # noqa: E402
from runner.engine.context import DECODED, Context  # noqa: E402
from runner.engine.model import Model  # noqa: E402
from runner.engine.native import LogFilter, load_library  # noqa: E402
from runner.engine.spec import EngineSpec  # noqa: E402
from runner.service import Runner  # noqa: E402
from runner.store.package import Parts, package  # noqa: E402

PROMPT = "Harbour log, entry {}: the ship came in at dawn, and its papers"
_kept: list[LogFilter] = []  # the library calls them as long as the process lives
PREFIX = "The rules of this harbour are many and all of them are written here for everyone to read. " * 100


def bare(path: Path, streams: int, tokens: int, threads: int) -> float:
    """Tokens per second of generation alone."""
    library = load_library()
    _kept.append(LogFilter(library))
    model = Model(library, [path])
    context = Context(model, cells=4096, batch=512, sequences=streams, outputs=streams, threads=threads)
    prompt = model.tokenize(PROMPT.format(0), add_special=True, parse_special=False)
    context.batch.clear()
    last = [context.batch.add(s, prompt, 0, output=True) for s in range(streams)]
    assert context.decode() == DECODED
    chosen = [int(np.argmax(context.logits(i))) for i in last]
    began = time.perf_counter()
    for step in range(tokens):
        context.batch.clear()
        for s in range(streams):
            context.batch.add(s, np.array([chosen[s]], np.int32), len(prompt) + step, output=True)
        assert context.decode() == DECODED
        chosen = [int(np.argmax(context.logits(s))) for s in range(streams)]
    rate = streams * tokens / (time.perf_counter() - began)
    context.close()
    model.close()
    return rate


async def engine(process: EngineProcess, streams: int, tokens: int) -> tuple[float, float]:
    """Tokens per second from the first token of all to the last, and the median time to first token in milliseconds."""
    stamps: list[float] = []
    firsts: list[float] = []

    async def one(number: int) -> None:
        frame = {
            "op": "generate",
            "prompt": PROMPT.format(f"{number}-{streams}-{time.monotonic_ns()}"),
            "options": {"temperature": 0, "max_tokens": tokens, "ignore_eos": True},
        }
        began, first = time.perf_counter(), True
        async for answer in process.stream(frame):
            if answer["ev"] == "delta":
                now = time.perf_counter()
                stamps.append(now)
                if first:
                    firsts.append((now - began) * 1000)
                    first = False

    await asyncio.gather(*(one(i) for i in range(streams)))
    start = sorted(stamps)[streams - 1]  # all have begun about then
    after = sum(1 for s in stamps if s > start)
    return after / (max(stamps) - start), statistics.median(firsts)


def high_level(path: Path, streams: int, tokens: int, threads: int) -> float:
    import llama_cpp

    llama = llama_cpp.Llama(str(path), n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False)
    llama(PROMPT.format(0), max_tokens=2, temperature=0)
    began = time.perf_counter()
    count = 0
    for i in range(streams):
        count += llama(PROMPT.format(i), max_tokens=tokens, temperature=0)["usage"]["completion_tokens"]
    rate = count / (time.perf_counter() - began)
    llama.close()
    return rate


async def shared_prefix(process: EngineProcess) -> dict[str, Any]:
    async def ask(text: str) -> tuple[float, dict[str, Any]]:
        began = time.perf_counter()
        frame = {"op": "generate", "prompt": text, "options": {"temperature": 0, "max_tokens": 1}}
        done = [f async for f in process.stream(frame)][-1]
        return (time.perf_counter() - began) * 1000, done["usage"]

    cold, usage = await ask(PREFIX + "First question?")
    warm, again = await ask(PREFIX + "Another question?")
    return {
        "prompt_tokens": usage["prompt_tokens"],
        "cold_ms": round(cold),
        "warm_ms": round(warm),
        "reused_tokens": again["cached_tokens"],
    }


class _Instant:
    """An engine that has always answered already: what is left is our HTTP, checking and scheduling."""

    alive, pid, ready = True, 0, {"template": ""}

    def resident_bytes(self) -> int:
        return 1

    async def stop(self) -> None:
        pass

    async def stream(self, _frame: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "cached_tokens": 0}
        yield {"ev": "delta", "text": "Hi"}
        yield {"ev": "done", "reason": "stop", "stop": "", "usage": usage, "timings": {}}


async def layer_ms(path: Path, rounds: int = 300) -> float:
    """Median milliseconds that a request spends in the application, the server's parsing of HTTP aside."""
    body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": headers}
    scope |= {"scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
    times = []
    with tempfile.TemporaryDirectory() as home:
        served = Runner.open(Settings.load(home=Path(home)))
        package(served.store, Parts((path,)), "bench")

        async def start(_spec: Any, on_exit: Any) -> Any:
            return _Instant()

        served.scheduler.start_engine = start
        app = create_app(served)
        for _ in range(rounds):
            messages = [{"type": "http.request", "body": body, "more_body": False}]

            async def receive(messages: list[dict[str, Any]] = messages) -> Any:
                return messages.pop() if messages else await asyncio.Event().wait()

            async def send(_message: Any) -> None:
                pass

            began = time.perf_counter()
            await app(dict(scope), receive, send)
            times.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(times), 3)


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    path, threads = arguments.model.resolve(), arguments.threads
    rows = []
    spec = EngineSpec("benchmark", (str(path),), context=4096, cells=8192, threads=threads)
    for streams in arguments.streams:
        row: dict[str, Any] = {"streams": streams, "bare": bare(path, streams, arguments.tokens, threads)}
        process = await EngineProcess.start(spec)
        await engine(process, 1, 4)
        row["engine"], row["first_token_ms"] = await engine(process, streams, arguments.tokens)
        await process.stop()
        row["high_level"] = high_level(path, min(streams, 2), arguments.tokens, threads)
        row["engine_of_bare"] = row["engine"] / row["bare"]
        rows.append({k: round(v, 3) for k, v in row.items()})
    process = await EngineProcess.start(spec)
    prefix = await shared_prefix(process)
    await process.stop()
    load = os.getloadavg()[0]
    return {
        "model": path.name,
        "tokens": arguments.tokens,
        "threads": threads,
        "load": load,
        "layer_ms": await layer_ms(path),
        "rows": rows,
        "prefix": prefix,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--streams", type=lambda s: [int(n) for n in s.split(",")], default=[1, 4, 8, 16])
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = asyncio.run(measure(arguments))
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['model']}, {result['tokens']} tokens, {result['threads']} threads, load {result['load']:.1f}")
    print(f"{'streams':>8} {'bare':>8} {'engine':>8} {'of bare':>8} {'high-level':>11} {'first token':>12}")
    for r in result["rows"]:
        print(
            f"{r['streams']:>8} {r['bare']:>8.1f} {r['engine']:>8.1f} {r['engine_of_bare']:>8.2f}"
            f" {r['high_level']:>11.1f} {r['first_token_ms']:>9.0f} ms"
        )
    print(f"prefix: {result['prefix']}")
    print(f"HTTP and scheduling: {result['layer_ms']} ms a request")


if __name__ == "__main__":
    sys.exit(main())
