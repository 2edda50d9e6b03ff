"""Vectors from any server of OpenAI's embeddings API; by default the model runner beside us.

Source: OpenAI API reference, "Create embeddings" (``POST /v1/embeddings``).
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx2
import numpy as np

from catalog.errors import EmbedderUnavailable
from catalog.search.index import Floats

MODEL = "ai/all-minilm"
BATCH = 32
TIMEOUT_S = 60.0  # a batch, the model's loading included
SHORTEST = 64  # characters: a text that is refused at this length is not too long, something else is wrong


class HttpEmbedder:
    """
    >>> HttpEmbedder("http://127.0.0.1:12434/v1").embed(["send an email"]).shape
    (1, 384)
    """

    def __init__(self, base_url: str, model: str = MODEL) -> None:
        self.model = model
        self._client = httpx2.Client(base_url=base_url, trust_env=False)

    def embed(self, texts: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> Floats:
        rows = [row for n in range(0, len(texts), BATCH) for row in self._batch(texts[n : n + BATCH], timeout_s)]
        return np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32)

    def close(self) -> None:
        self._client.close()

    def _batch(self, texts: Sequence[str], timeout_s: float) -> list[Floats]:
        try:
            answer = self._client.post(
                "/embeddings", json={"model": self.model, "input": list(texts)}, timeout=timeout_s
            )
        except httpx2.TransportError as e:
            raise EmbedderUnavailable(
                f"no embedding model answers at {self._client.base_url}: {e}",
                remedy="start one: hm up, or hm model serve",
            ) from e
        if answer.status_code == 400 and (len(texts) > 1 or len(texts[0]) > SHORTEST):
            return self._shortened(texts, timeout_s)
        return self._rows(answer, len(texts))

    def _shortened(self, texts: Sequence[str], timeout_s: float) -> list[Floats]:
        """One by one, and half of a text that is refused alone: a script with many tokens to a character."""
        if len(texts) > 1:
            return [row for text in texts for row in self._batch([text], timeout_s)]
        return self._batch([texts[0][: len(texts[0]) // 2]], timeout_s)

    def _rows(self, answer: httpx2.Response, count: int) -> list[Floats]:
        try:
            if answer.is_error:
                raise ValueError(_said(answer))
            data = sorted(answer.json()["data"], key=lambda row: row["index"])
            rows = [np.asarray(row["embedding"], dtype=np.float32) for row in data]
            if len(rows) != count or len({row.shape for row in rows}) != 1:
                raise ValueError(f"{len(rows)} vectors for {count} texts")
            return [row / max(float(np.linalg.norm(row)), 1e-9) for row in rows]
        except (ValueError, KeyError, TypeError) as e:
            raise EmbedderUnavailable(
                f"{self.model} at {self._client.base_url} gave no vectors: {e}",
                remedy=f"see that it is there: hm model ls, hm model run {self.model}",
            ) from e


def _said(answer: httpx2.Response) -> str:
    """Why it refused, in its own words: ``error.message`` of OpenAI's API."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {answer.status_code}"
