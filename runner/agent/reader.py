"""What a model can take in, as far as the server that runs it says: how much it reads, and how large it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import httpx2

from runner.agent.models import OpenAIModel, base_url

ASK_S = 10.0
_COUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([KMBT]?)", re.IGNORECASE)
_POWERS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Reader:
    room: int = 0  # tokens of prompt and answer together; 0: not known
    parameters: int = 0  # 0: not known


async def ask_reader(model: OpenAIModel) -> Reader:
    """Not known where the server does not say: this decides nothing that must be right."""
    try:
        async with model.client() as client:
            answer = await client.get(f"{base_url(model.url)}/models/{model.model}", timeout=ASK_S)
        return read_facts(answer.json()) if answer.status_code == 200 else Reader()
    except (httpx2.HTTPError, ValueError):
        return Reader()


def read_facts(body: Any) -> Reader:
    """Of a model object: ``dmr`` (Docker's runner, and ours), ``max_model_len`` (vLLM), ``meta`` (llama-server)."""
    facts = _object(body)
    docker, meta = _object(facts.get("dmr")), _object(facts.get("meta"))
    room = docker.get("context_window") or facts.get("max_model_len") or meta.get("n_ctx")
    size = docker.get("parameters") or meta.get("n_params")
    return Reader(room if type(room) is int and room > 0 else 0, count(size))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def count(text: Any) -> int:
    """``135M``, ``1.71B``, or a number."""
    found = _COUNT.fullmatch(str(text).strip()) if text else None
    return int(float(found.group(1)) * _POWERS[found.group(2).upper()]) if found else 0
