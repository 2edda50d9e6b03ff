"""Documents in the order in which they answer a query: the API that Jina, Cohere, vLLM and llama.cpp share (llama.cpp,
``tools/server/README.md``, ``POST /v1/rerank``)."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runner.api.chat_request import integer, model_name
from runner.api.http import client_of, json_body, json_response, until_disconnect
from runner.errors import RequestInvalid
from runner.service import Runner

MAX_DOCUMENTS = 2047  # with the query, as many inputs as one request for embeddings


class Rerank:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def rerank(self, request: Request) -> Response:
        body = await json_body(request)
        query, documents = _query(body), _documents(body)
        most = integer(body, "top_n", len(documents), 1, 1 << 20)
        plan = self._runner.plan(model_name(body))

        async def work() -> tuple[list[float], str, int]:
            async with self._runner.scheduler.use(plan, client=client_of(request)) as engine:
                counted = asyncio.gather(*(_count(engine, text) for text in [query, *documents]))
                scores, method = await _scores(engine, query, documents)
                return scores, method, sum(await counted)

        scores, method, tokens = await until_disconnect(request, work())
        order = sorted(range(len(documents)), key=lambda i: (-scores[i], i))[:most]
        return json_response(
            {
                "object": "list",
                "model": body["model"],
                "method": method,
                "results": [_result(i, scores[i], documents[i], body) for i in order],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )


async def _scores(engine: Any, query: str, documents: list[str]) -> tuple[list[float], str]:
    """A reranker's own scores; of any other model the cosine of the embeddings, and the answer says so."""
    if engine.ready.get("facts", {}).get("ranks"):
        rows = await engine.ask({"op": "rerank", "query": query, "documents": documents})
        return [row[0] for row in rows], "rank"
    first, *others = await engine.ask({"op": "embed", "inputs": [query, *documents]})
    return [sum(a * b for a, b in zip(first, other, strict=True)) for other in others], "cosine"


async def _count(engine: Any, text: str) -> int:
    return int(await engine.ask({"op": "count", "prompt": text, "parse_special": False}))


def _result(index: int, score: float, document: str, body: dict[str, Any]) -> dict[str, Any]:
    shown = {"document": {"text": document}} if body.get("return_documents") is True else {}
    return {"index": index, "relevance_score": score, **shown}


def _query(body: dict[str, Any]) -> str:
    query = body.get("query")
    if not isinstance(query, str) or not query:
        raise RequestInvalid("query should be a text", param="query")
    return query


def _documents(body: dict[str, Any]) -> list[str]:
    value = body.get("documents", body.get("texts"))  # Hugging Face's servers say texts
    if not isinstance(value, list) or not 0 < len(value) <= MAX_DOCUMENTS:
        raise RequestInvalid(f"documents should be a list of 1 to {MAX_DOCUMENTS} texts", param="documents")
    texts = [d.get("text") if isinstance(d, dict) else d for d in value]
    if not all(isinstance(t, str) and t for t in texts):
        raise RequestInvalid("documents should be texts", param="documents")
    return [str(t) for t in texts]
