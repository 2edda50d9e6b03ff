"""What the runner's benchmark compares: our server, llama.cpp's server and its batched-bench, on the same GGUF file.

All get the same threads and the same memory for sequences, and the setting of OpenMP that our engine runs with.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.configuration import Configurations
from runner.engine.client import SPIN_COUNT
from runner.store.package import Parts, package
from runner.store.store import ModelStore

ROOT = Path(__file__).resolve().parents[1]
SLOTS = 8  # of llama-server
OURS_AT_ONCE = 16  # sequences that our engine runs at once, its default
START_S = 120


@dataclass(frozen=True)
class Machine:
    """What every side is given."""

    model: Path
    threads: int
    cells: int  # tokens in memory for all sequences

    @property
    def context(self) -> int:
        """Tokens of one sequence; llama-server divides its memory among its slots."""
        return self.cells // SLOTS


@contextlib.contextmanager
def ours(machine: Machine, home: Path) -> Iterator[str]:
    """`hm model serve` with the model loaded; its address."""
    store = ModelStore(home / "models")
    model = package(store, Parts((machine.model,)), "bench")
    settings = {"threads": machine.threads, "context_size": machine.context, "cells": machine.cells}
    Configurations(home / "models" / "configurations.json").change(model, {**settings, "parallel": OURS_AT_ONCE})
    port = _free_port()
    command = [sys.executable, "-m", "harbourmaster", "model", "serve", "--port", str(port)]
    environment = {**os.environ, "HM_HOME": str(home), "HM_LOG_LEVEL": "warning", "PYTHONPATH": str(ROOT)}
    with _served([*command, "--preload", "bench"], environment, f"http://127.0.0.1:{port}", "/v1/models") as url:
        yield url


@contextlib.contextmanager
def instant(home: Path) -> Iterator[str]:
    """Our server, with the store that ``ours`` made in ``home``, around an engine that answers at once."""
    port = _free_port()
    environment = {**os.environ, "HM_HOME": str(home), "HM_LOG_LEVEL": "warning", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.runner_instant", str(port)]
    with _served(command, environment, f"http://127.0.0.1:{port}", "/v1/models") as url:
        yield url


@contextlib.contextmanager
def llama_server(program: Path, machine: Machine) -> Iterator[str]:
    port = _free_port()
    command = [str(program), "-m", str(machine.model), "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    command += ["-np", str(SLOTS), "-c", str(machine.cells), *_threads(machine)]
    with _served(command, _environment(), f"http://127.0.0.1:{port}", "/health") as url:
        yield url


def batched_bench(
    program: Path, machine: Machine, streams: list[int], prompt: int, tokens: int, *, our_kernels: bool = False
) -> dict[int, dict[str, float]]:
    """Number of streams -> its row: ``speed_tg`` tokens/s of generation, ``t`` seconds in all, and more.

    ``our_kernels``: run it on our engine's libraries, which have the names of its own.
    """
    command = [str(program), "-m", str(machine.model), "-c", str(machine.cells), *_threads(machine)]
    command += ["-npp", str(prompt), "-ntg", str(tokens), "-npl", ",".join(map(str, streams))]
    command += ["--output-format", "jsonl"]
    environment = _environment() | ({"LD_LIBRARY_PATH": str(_libraries())} if our_kernels else {})
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    rows = [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if line.startswith("{")]
    return {int(row["pl"]): row for row in rows}


def machine_words() -> str:
    """Cores and processor, for a table's heading."""
    models = [x.partition(":")[2].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    return f"{os.cpu_count()} x {models[0] if models else platform.machine()}"


def _libraries() -> Path:
    found = importlib.util.find_spec("llama_cpp")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "lib"


def _threads(machine: Machine) -> list[str]:
    return ["-t", str(machine.threads), "-tb", str(machine.threads)]


def _environment() -> dict[str, str]:
    return {"GOMP_SPINCOUNT": SPIN_COUNT, **os.environ}


@contextlib.contextmanager
def _served(command: list[str], environment: dict[str, str], url: str, path: str) -> Iterator[str]:
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_up(process, url + path)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _wait_until_up(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    raise SystemExit(f"{process.args!r} does not answer")


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
