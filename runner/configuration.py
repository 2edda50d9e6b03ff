"""Settings of single models that survive restarts.  Typed values only: nothing here becomes an argument of a program."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harbourmaster.core.files import file_lock, write_atomic
from runner.engine.spec import DEFAULT_RUNNING, DEFAULT_SPECULATIVE
from runner.errors import RequestInvalid
from runner.scheduler.policy import FOREVER, IDLE_S
from runner.store.store import Model

MAX_LORAS = 16  # of one model
BACKENDS = (
    "llama.cpp",
    "llama-server",
)  # the engine of this package; llama.cpp's own server, where a person installed it
_BOUNDS: dict[str, tuple[int, int]] = {
    "context_size": (16, 1 << 24),
    "cells": (16, 1 << 26),
    "parallel": (1, 64),
    "threads": (1, 1024),
    "gpu_layers": (-1, 4096),
    "speculative_tokens": (0, 64),
}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


@dataclass(frozen=True)
class Configuration:
    context_size: int | None = None  # tokens
    cells: int | None = None  # tokens in memory for all requests together
    parallel: int = DEFAULT_RUNNING
    threads: int | None = None
    gpu_layers: int = -1
    speculative_tokens: int = DEFAULT_SPECULATIVE
    keep_alive_s: float = IDLE_S
    pinned: bool = False
    backend: str = "llama.cpp"
    lora: tuple[tuple[int, float], ...] | None = None  # adapter -> scale, others 0; None: each of them at 1

    def changed(self, changes: dict[str, Any]) -> Configuration:
        """Raises ``RequestInvalid`` naming the field."""
        known = {k: v for k, v in changes.items() if v is not None}
        for name, value in known.items():
            if name not in asdict(self):
                raise RequestInvalid(f"no setting {name!r}", remedy=f"settings: {', '.join(asdict(self))}", param=name)
            low, high = _BOUNDS.get(name, (0, 0))
            if name in _BOUNDS and not (type(value) is int and low <= value <= high):
                raise RequestInvalid(f"{name} should be a whole number from {low} to {high}", param=name)
        if known.get("backend", BACKENDS[0]) not in BACKENDS:
            raise RequestInvalid(
                f"no backend {known['backend']!r}", remedy=f"use {' or '.join(BACKENDS)}", param="backend"
            )
        if "lora" in known:
            known["lora"] = parse_lora(known["lora"])
        return replace(self, **known)


def parse_lora(value: Any) -> tuple[tuple[int, float], ...]:
    """From ``[{"id": 0, "scale": 0.5}]`` (llama.cpp, ``tools/server/README.md``, ``lora``) or pairs of both."""
    if not isinstance(value, list | tuple) or len(value) > MAX_LORAS:
        raise RequestInvalid(f"lora should be a list of at most {MAX_LORAS} adapters", param="lora")
    pairs = [(v.get("id"), v.get("scale", 1.0)) if isinstance(v, dict) else tuple(v) for v in value]
    for pair in pairs:
        if (
            len(pair) != 2
            or type(pair[0]) is not int
            or type(pair[1]) not in (int, float)
            or not -100 <= pair[1] <= 100
        ):
            raise RequestInvalid('lora should hold {"id": NUMBER, "scale": NUMBER}', param="lora")
    if len({number for number, _ in pairs}) < len(pairs):
        raise RequestInvalid("lora names an adapter twice", param="lora")
    return tuple((number, float(scale)) for number, scale in sorted(pairs))


class Configurations:
    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, model: Model) -> Configuration:
        stored = self._read().get(model.id)
        try:
            return Configuration().changed(stored) if isinstance(stored, dict) else Configuration()
        except RequestInvalid:
            return Configuration()

    def change(self, model: Model, changes: dict[str, Any]) -> Configuration:
        with file_lock(self._path.with_suffix(".lock")):
            table = self._read()
            new = self.get(model).changed(changes)
            table[model.id] = asdict(new)
            write_atomic(self._path, json.dumps(table, indent=1, sort_keys=True).encode())
        return new

    def _read(self) -> dict[str, Any]:
        try:
            table = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return table if isinstance(table, dict) else {}


def parse_keep_alive(value: Any) -> float:
    """Seconds from Docker's and Ollama's forms: ``"5m"``, ``"1h30m"``, ``300``, ``0`` (at once), negative (for ever)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if value >= 0 else FOREVER
    text = str(value).strip()
    if text.startswith("-"):
        return FOREVER
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise RequestInvalid(f"keep_alive {value!r} is no duration", remedy="write 5m, 1h30m, 300 or -1")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds
