"""nDCG@10 and recall@10 over the judged queries, for ours and for plain BM25 (benchmarks and tests use it).

python tests/catalog/judged/evaluate.py MCP_REGISTRY_FOLDER [--half tuning|unseen] [--each] [--embed http://127.0.0.1:12434/v1]
"""

from __future__ import annotations

import hashlib
import math
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from catalog import service
from catalog.search.documents import SearchDocument, load
from catalog.search.embedder import TIMEOUT_S, HttpEmbedder
from catalog.search.index import Floats
from catalog.search.searcher import Searcher, SearchRequest
from catalog.store import Store
from harbourmaster.core.settings import Settings

QUERIES = Path(__file__).with_name("queries.txt")
DEPTH = 10

Judged = dict[str, dict[str, int]]
Rank = Callable[[str], list[str]]


def read_queries(half: str = "") -> Judged:
    """``tuning`` and ``unseen`` are halves by a hash of the query, so that nobody chose which is which."""
    found: Judged = {}
    for line in QUERIES.read_text().splitlines():
        if line and not line.startswith("#"):
            query, _, answers = line.partition(" = ")
            found[query] = {name: int(grade) for name, _, grade in (a.partition(":") for a in answers.split())}
    return {q: a for q, a in found.items() if half in ("", half_of(q))}


def half_of(query: str) -> str:
    return "unseen" if hashlib.sha256(query.encode()).digest()[0] % 2 else "tuning"


def ndcg(ranked: list[str], grades: dict[str, int]) -> float:
    """Järvelin and Kekäläinen 2002, gain 2^grade - 1, cut at 10."""
    gained = _discounted([2 ** grades.get(name, 0) - 1 for name in ranked[:DEPTH]])
    best = _discounted([2**g - 1 for g in sorted(grades.values(), reverse=True)[:DEPTH]])
    return gained / best


def _discounted(gains: list[int]) -> float:
    return sum(g / math.log2(i + 2) for i, g in enumerate(gains))


def recall(ranked: list[str], grades: dict[str, int]) -> float:
    """Of the entries graded 2 or 3 (at most ten of them), how many stand in the first ten."""
    good = {n for n, g in grades.items() if g >= 2}
    return len(good & set(ranked[:DEPTH])) / min(len(good), DEPTH)


def measure(rank: Rank, judged: Judged) -> tuple[float, float]:
    rows = [(rank(q), grades) for q, grades in judged.items()]
    return (
        sum(ndcg(r, g) for r, g in rows) / len(rows),
        sum(recall(r, g) for r, g in rows) / len(rows),
    )


def plain_bm25(documents: list[SearchDocument]) -> Rank:
    """Okapi BM25 (k1 1.2, b 0.75) over one bag of lower-case words per entry: everything the entry itself says, no glossary."""
    own = [f for f in documents[0].fields if f != "about"]
    bags = [Counter(_plain(" ".join(w for f in own for w in d.fields[f]))) for d in documents]
    names = [d.card.name for d in documents]
    mean = sum(b.total() for b in bags) / len(bags)
    held = Counter(w for b in bags for w in b)

    def rank(query: str) -> list[str]:
        scored = [(-_bm25(_plain(query), b, held, len(bags), mean), n) for b, n in zip(bags, names, strict=True)]
        return [n for s, n in sorted(scored) if s < 0][:DEPTH]

    return rank


def _plain(text: str) -> list[str]:
    return [w.removesuffix("s") for w in re.findall(r"[a-z0-9]+", text.lower())]


def _bm25(query: list[str], bag: Counter[str], held: Counter[str], size: int, mean: float) -> float:
    total = 0.0
    for word in query:
        tf, df = bag[word], held[word]
        idf = math.log(1 + (size - df + 0.5) / (df + 0.5))
        total += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * bag.total() / mean))
    return total


class Patient(HttpEmbedder):
    """Waits however busy the machine is: quality is measured here, not speed."""

    def embed(self, texts: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> Floats:
        return super().embed(texts, timeout_s=TIMEOUT_S)


def main(folder: str, *options: str) -> None:
    half = options[options.index("--half") + 1] if "--half" in options else ""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.load(home=Path(home))
        store = Store.open(settings)
        service.add_source(store, "judged", "mcp-registry", folder)
        service.sync_source(store, settings, "judged")
        embedder = Patient(options[options.index("--embed") + 1]) if "--embed" in options else None
        searcher = Searcher(store, embedder=embedder)
        for left in searcher.learn():
            print(f"{left} entries to embed", file=sys.stderr)

        def ours(query: str) -> list[str]:
            return [h.card.name for h in searcher.search(SearchRequest(query, limit=DEPTH, facets=False)).hits]

        with store.reading() as session:
            plain = plain_bm25(list(load(session, "default")))
        for name in [half] if half else ["tuning", "unseen"]:
            judged = read_queries(name)
            for label, rank in (("plain BM25", plain), ("ours", ours)):
                print(
                    f"{name:7} {len(judged):3} queries  {label:10}  nDCG@10 %.3f  recall@10 %.3f"
                    % measure(rank, judged)
                )
            if "--each" in options:
                for query, grades in judged.items():
                    ranked = ours(query)
                    shown = " ".join(f"{n}:{grades.get(n, 0)}" for n in ranked)
                    missed = [n for n, g in grades.items() if g >= 2 and n not in ranked]
                    print(f"{ndcg(ranked, grades):.2f}  {query}\n        {shown}\n        missed: {' '.join(missed)}")
        store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
