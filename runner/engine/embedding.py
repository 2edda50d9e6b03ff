"""Embeddings, and the scores of rerankers: a second context over the same weights, made on first use, run between the steps of generation."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runner.engine.context import DECODED, Context
from runner.engine.model import Model, Tokens
from runner.engine.requests import Embed, Event, Failed, Result
from runner.errors import EngineFailed

MAX_BATCH = 2048  # tokens at once; an input must fit, as attention of embedding models sees all of it
MAX_SEQUENCES = 16


@dataclass
class _Job:
    command: Embed
    vectors: list[list[float]] = field(default_factory=list)


class Embedder:
    def __init__(self, model: Model, *, context: int, threads: int) -> None:
        self._model, self._threads = model, threads
        self.limit = min(context, MAX_BATCH)
        self._context: Context | None = None
        self._jobs: deque[_Job] = deque()

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    def add(self, command: Embed) -> None:
        self._jobs.append(_Job(command))

    def cancel(self, request_id: int) -> None:
        self._jobs = deque(j for j in self._jobs if j.command.id != request_id)

    def step(self) -> list[Event]:
        """Compute as many inputs of the oldest request as one batch holds."""
        if not self._jobs:
            return []
        job = self._jobs[0]
        try:
            context = self._context or self._open()
            todo = _group(job.command.inputs[len(job.vectors) :], self.limit)
            job.vectors.extend(self._compute(context, todo))
        except Exception as e:
            self._jobs.popleft()
            return [Failed(job.command.id, e)]
        if len(job.vectors) < len(job.command.inputs):
            return []
        self._jobs.popleft()
        return [Result(job.command.id, job.vectors)]

    def _open(self) -> Context:
        self._context = Context(
            self._model,
            cells=self.limit,
            batch=self.limit,
            sequences=MAX_SEQUENCES,
            outputs=0,
            threads=self._threads,
            embeds=True,
        )
        return self._context

    def _compute(self, context: Context, inputs: list[Tokens]) -> list[list[float]]:
        context.clear()
        context.batch.clear()
        for slot, tokens in enumerate(inputs):
            context.batch.add(slot, tokens, 0, output=True, all_outputs=True)
        status = context.decode()
        if status != DECODED:
            raise EngineFailed(f"llama.cpp could not compute the embedding (status {status})", remedy="try again")
        if self._model.facts.ranks:
            return [[float(context.pooled(slot, 1)[0])] for slot in range(len(inputs))]
        return [_unit(context.pooled(slot, self._model.facts.embedding)) for slot in range(len(inputs))]


def _group(inputs: tuple[Tokens, ...], limit: int) -> list[Tokens]:
    group: list[Tokens] = []
    used = 0
    for tokens in inputs[:MAX_SEQUENCES]:
        if group and used + len(tokens) > limit:
            break
        group.append(tokens)
        used += len(tokens)
    return group


def _unit(vector: np.ndarray[Any, Any]) -> list[float]:
    norm = float(np.linalg.norm(vector))
    return [float(x) for x in (vector / norm if norm > 0 else vector)]
