"""How fast the model runner is, against llama.cpp's own programs on the same machine, file, threads and minutes.

    python benchmarks/runner.py MODEL.gguf [--llama-server PROGRAM] [--batched-bench PROGRAM] [--rounds 3]

Ours and `llama-server` answer streaming chat requests over HTTP; `llama-batched-bench` is the C library in a loop, no
text, no sampling, no HTTP: as llama.cpp is, and with our kernels (runner/kernels) under it.  Sides take turns; each ratio
is taken within a round, and printed is the median.
benchmarks/README.md says how to build the two programs from the sources that our own engine is compiled from.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # else this file itself would be the package `runner`

from benchmarks import runner_prompts as prompts  # noqa: E402
from benchmarks import runner_sides as sides  # noqa: E402
from benchmarks.runner_load import Burst, burst  # noqa: E402

PROMPT_WORDS = 50  # of a request whose generation is measured
FIRST_STREAMS = 8
FIRST_TOKENS = 16
FOLLOWERS = 4  # requests at once behind one long prefix
PREFIX_WORDS = 1640  # about 2,000 tokens
LAYER_REQUESTS = 300
PARTS = ["generation", "first", "prefix", "layer"]
KINDS = {"one length": prompts.equal, "many lengths": prompts.mixed, "one system prompt": prompts.one_system}


@dataclass(frozen=True)
class Bench:
    machine: sides.Machine
    ours: str  # address
    theirs: str  # address of llama-server; empty: none
    limit: Path | None  # batched-bench
    rounds: int
    tokens: int

    @property
    def servers(self) -> dict[str, str]:
        return {"ours": self.ours, **({"llama-server": self.theirs} if self.theirs else {})}

    def generation(self, streams: int) -> dict[str, Any]:
        rounds = [self._generation_round(streams) for _ in range(self.rounds)]
        return {"streams": streams, **_medians(rounds)}

    def _generation_round(self, streams: int) -> dict[str, float]:
        found: dict[str, float] = {}
        asked = 0
        for name, url in self.servers.items():
            done = _burst(url, [prompts.alone(PROMPT_WORDS) for _ in range(streams)], self.tokens)
            found[f"{name} whole"] = done.whole
            if done.generating:
                found[f"{name} generating"] = done.generating
            asked = max(a.prompt_tokens for a in done.answers)
        if self.limit:
            row = sides.batched_bench(self.limit, self.machine, [streams], asked, self.tokens)[streams]
            found["batched-bench generating"] = row["speed_tg"]
            found["batched-bench whole"] = streams * self.tokens / row["t"]
            row = sides.batched_bench(self.limit, self.machine, [streams], asked, self.tokens, our_kernels=True)[
                streams
            ]
            found["it with our kernels"] = row["speed_tg"]
        _ratio(found, "of batched-bench", "ours generating", "batched-bench generating")
        _ratio(found, "of it with our kernels", "ours generating", "it with our kernels")
        _ratio(found, "of batched-bench, whole", "ours whole", "batched-bench whole")
        _ratio(found, "of llama-server", "ours whole", "llama-server whole")
        return found

    def first_tokens(self, kind: str) -> dict[str, Any]:
        rounds = []
        for _ in range(self.rounds):
            found: dict[str, float] = {}
            for name, url in self.servers.items():
                done = _burst(url, KINDS[kind](FIRST_STREAMS), FIRST_TOKENS)
                found[f"{name} ms"], found[f"{name} last ms"] = done.first_ms, done.last_first_ms
                found["prompt tokens"] = statistics.mean(a.prompt_tokens for a in done.answers)
            _ratio(found, "of llama-server", "ours ms", "llama-server ms")
            rounds.append(found)
        return {"prompts": kind, **_medians(rounds)}

    def prefix(self) -> dict[str, Any]:
        """One request with a long prefix; some at once with another; some at once with that one again."""
        found: dict[str, Any] = {}
        for name, url in self.servers.items():
            one, many = prompts.text(PREFIX_WORDS), prompts.text(PREFIX_WORDS)
            alone = _burst(url, prompts.behind(one, 1), FIRST_TOKENS)
            cold = _burst(url, prompts.behind(many, FOLLOWERS), FIRST_TOKENS)
            warm = _burst(url, prompts.behind(many, FOLLOWERS), FIRST_TOKENS)
            found[name] = {
                "alone_ms": round(alone.first_ms),
                "cold_ms": round(cold.last_first_ms),
                "warm_ms": round(warm.last_first_ms),
                "of alone": round(cold.last_first_ms / alone.first_ms, 2),
                "prompt_tokens": sum(a.prompt_tokens for a in cold.answers),
                "computed_tokens": sum(a.prompt_tokens - a.cached_tokens for a in cold.answers),
            }
        return found


def _burst(url: str, asked: list[prompts.Messages], tokens: int) -> Burst:
    return asyncio.run(burst(url, asked, tokens))


def _ratio(found: dict[str, float], name: str, one: str, other: str) -> None:
    if one in found and other in found:
        found[name] = found[one] / found[other]


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    names = list(dict.fromkeys(name for found in rounds for name in found))
    return {name: round(statistics.median(f[name] for f in rounds if name in f), 3) for name in names}


def layer_ms(home: Path) -> dict[str, float]:
    """Milliseconds of a request over a socket to our server, whose engine answers at once."""
    with sides.instant(home) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": "Hi"}]})
        times = []
        for _ in range(LAYER_REQUESTS):
            began = time.perf_counter()
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            assert b"Hi" in connection.getresponse().read()
            times.append((time.perf_counter() - began) * 1000)
        connection.close()
    cuts = statistics.quantiles(times, n=100)
    return {"median": round(cuts[49], 3), "p99": round(cuts[98], 3)}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    machine = sides.Machine(given.model.resolve(), given.threads, given.cells)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        ours = stack.enter_context(sides.ours(machine, Path(home)))
        theirs = stack.enter_context(sides.llama_server(given.llama_server, machine)) if given.llama_server else ""
        bench = Bench(machine, ours, theirs, given.batched_bench, given.rounds, given.tokens)
        for url in bench.servers.values():
            _burst(url, [prompts.alone(PROMPT_WORDS)], 4)
        result: dict[str, Any] = {
            "about": f"{given.model.name[:24]}, {given.threads} threads, {given.cells} cells; {sides.machine_words()}; "
            f"{given.tokens} tokens out, median of {given.rounds} rounds; load average before the start {load:.1f}"
        }
        if "generation" in given.parts:
            result["generation"] = [bench.generation(n) for n in given.streams]
        if "first" in given.parts:
            result["first"] = [bench.first_tokens(kind) for kind in KINDS]
        if "prefix" in given.parts:
            result["prefix"] = bench.prefix()
        stack.close()
        return {**result, **({"layer": layer_ms(Path(home))} if "layer" in given.parts else {})}


def report(result: dict[str, Any]) -> None:
    print(result["about"])
    if rows := result.get("generation"):
        print(
            "\nTokens per second (generating: while all streams do; whole: from the first request to the last token)\n"
        )
        names = ["ours generating", "batched-bench generating", "of batched-bench", "it with our kernels"]
        names += ["of it with our kernels", "ours whole", "batched-bench whole"]
        _table("streams", [*names, "of batched-bench, whole", "llama-server whole", "of llama-server"], rows)
    if rows := result.get("first"):
        print(f"\nMilliseconds to the first token, {FIRST_STREAMS} requests at once\n")
        names = ["prompt tokens", "ours ms", "llama-server ms", "of llama-server", "ours last ms"]
        _table("prompts", [*names, "llama-server last ms"], rows)
    if prefix := result.get("prefix"):
        print(f"\nA prefix of about 2,000 tokens: one request, {FOLLOWERS} at once with a new one, and with it again\n")
        rows = [{"side": name, **row} for name, row in prefix.items()]
        _table("side", [name for name in rows[0] if name != "side"], rows)
    if layer := result.get("layer"):
        print(f"\nHTTP, checking and scheduling: {layer['median']} ms a request (p99 {layer['p99']} ms)")


def _table(first: str, wanted: list[str], rows: list[dict[str, Any]]) -> None:
    names = [first, *(name for name in wanted if any(name in row for row in rows))]
    print("| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|")
    for row in rows:
        print("| " + " | ".join(_cell(name, row.get(name, "")) for name in names) + " |")


def _cell(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"x {value:.2f}" if name.startswith("of ") else f"{value:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--llama-server", type=Path, help="the program")
    parser.add_argument("--batched-bench", type=Path, help="the program")
    parser.add_argument("--streams", type=lambda s: [int(n) for n in s.split(",")], default=[1, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=96, help="that each stream generates")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cells", type=int, default=20480, help="tokens in memory for all sequences")
    parser.add_argument(
        "--parts", type=lambda s: s.split(","), default=PARTS, help=f"which to measure: {','.join(PARTS)}"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        result = measure(given)
    except subprocess.CalledProcessError as e:
        raise SystemExit(f"{e}: {e.stderr[-1000:]}") from e
    if given.json:
        print(json.dumps(result, indent=1))
    else:
        report(result)


if __name__ == "__main__":
    main()
