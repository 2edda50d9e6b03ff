"""Models that can be pulled: Docker Hub's ``ai`` namespace (Docker Hub API v2, "List repositories") and Hugging Face's GGUF
repositories (Hub API, ``GET /api/models``)."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import httpx2

from harbourmaster.core.errors import UnavailableError
from runner.store.reference import DEFAULT_NAMESPACE

HUB = "https://hub.docker.com"
TIMEOUT_S = 20.0
MAX_PAGE = 100  # both services' limit


class SearchUnavailable(UnavailableError):
    code = "runner.search_unavailable"


@dataclass(frozen=True)
class Found:
    name: str  # as `hm model pull` takes it
    source: str
    description: str
    pulls: int
    stars: int
    updated: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def hf_endpoint() -> str:
    """``HF_ENDPOINT`` is Hugging Face's own variable for mirrors."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def search(term: str, *, source: str, limit: int, hub: str = HUB, hf: str = "") -> list[Found]:
    """Raises ``SearchUnavailable`` when none of the sources answers; most pulled first."""
    found: list[Found] = []
    problems = []
    wanted = {"dockerhub": _dockerhub, "huggingface": _huggingface}
    for name, ask in wanted.items():
        if source in (name, "all"):
            try:
                found += ask(term, min(limit, MAX_PAGE), hub if name == "dockerhub" else hf or hf_endpoint())
            except (httpx2.HTTPError, ValueError, LookupError, TypeError, AttributeError) as e:
                problems.append(f"{name}: {e or type(e).__name__}")
    if problems and not found:
        raise SearchUnavailable(f"nothing could be searched ({'; '.join(problems)})", remedy="check the network")
    return sorted(found, key=lambda f: -f.pulls)[:limit]


def _dockerhub(term: str, limit: int, base: str) -> list[Found]:
    query: dict[str, Any] = {"page_size": limit, "ordering": "-pull_count", **({"name": term} if term else {})}
    rows = _get(f"{base}/v2/namespaces/{DEFAULT_NAMESPACE}/repositories", query)["results"]
    return [
        Found(
            f"{DEFAULT_NAMESPACE}/{row['name']}", "dockerhub", _line(row.get("description")),
            int(row.get("pull_count") or 0), int(row.get("star_count") or 0), str(row.get("last_updated") or ""),
        )
        for row in rows
        if term.lower() in f"{row['name']} {row.get('description')}".lower()
    ]  # fmt: skip


def _huggingface(term: str, limit: int, base: str) -> list[Found]:
    query = {"search": term, "filter": "gguf", "sort": "downloads", "direction": -1, "limit": limit}
    return [
        Found(
            f"hf.co/{row['id']}", "huggingface", _line(row.get("pipeline_tag")), int(row.get("downloads") or 0),
            int(row.get("likes") or 0), str(row.get("lastModified") or row.get("createdAt") or ""),
        )
        for row in _get(f"{base}/api/models", query)
    ]  # fmt: skip


def _get(url: str, query: dict[str, Any]) -> Any:
    answer = httpx2.get(url, params=query, timeout=TIMEOUT_S, follow_redirects=True)
    answer.raise_for_status()
    return answer.json()


def _line(text: Any) -> str:
    return " ".join(str(text or "").split())[:200]
