"""What an engine process is told to load."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

DEFAULT_RUNNING = 16
DEFAULT_SLOTS = 32  # finished sequences kept for their prefixes; each costs an output row of the vocabulary's width
DEFAULT_BATCH = 512
DEFAULT_SPECULATIVE = 8  # tokens: on two cores eight cost twice what one costs, and sixteen four times
DEFAULT_CONTEXT = 8192  # tokens, where neither the model's packager nor a person names one


@dataclass(frozen=True)
class EngineSpec:
    name: str
    paths: tuple[str, ...]
    context: int = 0  # tokens of one sequence; 0: the model's own, at most DEFAULT_CONTEXT
    cells: int = 0  # tokens in memory for all sequences; 0: as ``context``
    running: int = DEFAULT_RUNNING
    slots: int = DEFAULT_SLOTS
    batch: int = DEFAULT_BATCH
    threads: int = 0  # 0: one per core
    gpu_layers: int = -1  # -1: all that the device takes
    speculative: int = DEFAULT_SPECULATIVE  # tokens in a step that also holds guesses; 0: no guesses
    template: str = ""  # replaces the model's own
    loras: tuple[tuple[str, float], ...] = ()  # adapters and their scales, for all requests of this engine
    mmproj: str = ""  # projector: with it, the model reads pictures
    backend: str = "llama.cpp"  # this package's engine; or "llama-server"
    url: str = ""  # of the server that runs it; empty: a process of ours does
    remote_model: str = ""
    key_env: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def parse(cls, body: dict[str, Any]) -> EngineSpec:
        loras = tuple((str(path), float(scale)) for path, scale in body["loras"])
        return cls(**{**body, "paths": tuple(body["paths"]), "loras": loras})
