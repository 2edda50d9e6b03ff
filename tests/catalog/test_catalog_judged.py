"""How well search answers a hundred judged queries over the real entries.  The method is in docs/search.md."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from catalog import service
from catalog.search.documents import load
from catalog.search.searcher import Searcher, SearchRequest
from catalog.store import Store
from harbourmaster.core.settings import Settings

sys.path.insert(0, str(Path(__file__).with_name("judged")))
import evaluate


def test_ours_reaches_the_promised_quality_and_beats_plain_bm25(
    sqlite_store: Store, settings: Settings, mcp_registry: Path
) -> None:
    service.add_source(sqlite_store, "judged", "mcp-registry", str(mcp_registry))
    service.sync_source(sqlite_store, settings, "judged")
    searcher = Searcher(sqlite_store)
    with sqlite_store.reading() as session:
        plain = evaluate.plain_bm25(list(load(session, "default")))

    def ours(query: str) -> list[str]:
        return [h.card.name for h in searcher.search(SearchRequest(query, limit=10)).hits]

    for half in ("tuning", "unseen"):
        judged = evaluate.read_queries(half)
        ndcg, recall = evaluate.measure(ours, judged)
        baseline, _ = evaluate.measure(plain, judged)
        assert ndcg >= 0.8, half
        assert recall >= 0.8, half
        assert ndcg > baseline + 0.1, half


def test_every_judged_name_is_an_entry_and_every_query_has_something_wanted(mcp_registry: Path) -> None:
    judged = evaluate.read_queries()
    names = {p.parent.name for p in mcp_registry.glob("servers/*/server.yaml")}
    assert len(judged) >= 100
    for query, grades in judged.items():
        assert set(grades) <= names, query
        assert max(grades.values()) == 3, query


@pytest.mark.parametrize(
    ("ranked", "expected"),
    [(["a", "b"], 1.0), (["b", "a"], 0.71), (["x", "y"], 0.0), (["x", "a", "b"], 0.64), (["a"], 0.92)],
)
def test_ndcg_is_what_the_paper_says(ranked: list[str], expected: float) -> None:
    assert evaluate.ndcg(ranked, {"a": 3, "b": 1}) == pytest.approx(expected, abs=0.01)
