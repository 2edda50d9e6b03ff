"""Search by meaning, with the embedding model that `hm up` brings, served by the runner."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from sqlmodel import select

from catalog import service
from catalog.errors import EmbedderUnavailable
from catalog.models import Embedding
from catalog.search.embedder import SHORTEST, HttpEmbedder
from catalog.search.index import Floats
from catalog.search.queries import QueryVectors
from catalog.search.searcher import Searcher, SearchRequest
from catalog.search.semantic import blended
from catalog.store import Store
from harbourmaster.core.settings import Settings
from runner.store.package import Parts, package
from runner.store.starter import MINILM, StarterUnavailable, fetch
from runner.store.store import ModelStore

sys.path.insert(0, str(Path(__file__).with_name("judged")))
import evaluate

CACHE = Path(os.environ.get("HM_TEST_CACHE") or "~/.cache/harbourmaster/models").expanduser()


@pytest.fixture(scope="module")
def runner_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`hm model serve` with all-MiniLM-L6-v2 in its store, up when its port answers."""
    if not importlib.util.find_spec("llama_cpp"):
        pytest.skip("llama-cpp-python is not installed (./hm model setup)")
    home = tmp_path_factory.mktemp("runner")
    package(ModelStore(home / "models"), Parts((_minilm(home),), created=MINILM.created), MINILM.tag)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "harbourmaster", "model", "serve", "--port", str(port), "--preload", MINILM.tag]
    process = subprocess.Popen(command, env={**os.environ, "HM_HOME": str(home)}, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:  # uvicorn says when it listens
            said.append(line)
            if f":{port}" in line:
                break
        else:
            pytest.fail(f"the runner ended: {''.join(said)}")
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)
        drain.join()
        process.stderr.close()


def _minilm(home: Path) -> Path:
    cached = CACHE / "all-minilm.gguf"
    if not cached.is_file():
        try:
            weights, _ = fetch(MINILM, home)
        except StarterUnavailable as e:
            pytest.skip(e.message)
        CACHE.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, cached)
    return cached


@pytest.fixture
def judged_store(sqlite_store: Store, settings: Settings, mcp_registry: Path) -> Store:
    service.add_source(sqlite_store, "judged", "mcp-registry", str(mcp_registry))
    service.sync_source(sqlite_store, settings, "judged")
    return sqlite_store


@pytest.mark.slow
def test_meaning_raises_the_quality_of_both_halves_of_the_judged_queries(judged_store: Store, runner_url: str) -> None:
    embedder = evaluate.Patient(runner_url)
    words, meaning = Searcher(judged_store), Searcher(judged_store, embedder=embedder)
    assert list(meaning.learn())[-1] == 0

    def rank(searcher: Searcher) -> evaluate.Rank:
        return lambda q: [h.card.name for h in searcher.search(SearchRequest(q, facets=False)).hits[:10]]

    for half in ("tuning", "unseen"):
        judged = evaluate.read_queries(half)
        assert evaluate.measure(rank(meaning), judged)[0] > evaluate.measure(rank(words), judged)[0], half
    # A task in words that no entry uses.
    assert "sqlite" not in rank(words)("somewhere to keep rows and columns")
    embedder.close()


@pytest.mark.slow
def test_vectors_are_made_once_and_those_of_gone_entries_are_dropped(
    judged_store: Store, runner_url: str, tmp_path: Path
) -> None:
    embedder = HttpEmbedder(runner_url)
    assert len(list(Searcher(judged_store, embedder=embedder).learn())) > 1
    assert list(Searcher(judged_store, embedder=embedder).learn()) == []  # a new process finds them
    service.remove_source(judged_store, "judged")
    list(Searcher(judged_store, embedder=embedder).learn())
    with judged_store.reading() as session:
        assert session.exec(select(Embedding)).all() == []
    embedder.close()


@pytest.mark.slow
def test_a_text_of_more_tokens_than_the_model_reads_is_shortened_not_lost(runner_url: str) -> None:
    embedder = HttpEmbedder(runner_url)
    vectors = embedder.embed(["港" * 2000, "port"])
    assert vectors.shape == (2, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    embedder.close()


class Scripted:
    """An embedder that fails on demand and counts what it was asked."""

    model = "scripted"

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []
        self.away = False

    def embed(self, texts: Sequence[str], *, timeout_s: float = 1.0) -> Floats:
        self.asked.append(texts)
        if self.away:
            raise EmbedderUnavailable("away", remedy="wait")
        return np.ones((len(texts), 1), dtype=np.float32)


def test_a_model_that_is_away_costs_one_try_and_search_goes_on_by_words(judged_store: Store) -> None:
    embedder = Scripted()
    searcher = Searcher(judged_store, embedder=embedder)
    list(searcher.learn())
    embedder.away, embedder.asked = True, []
    for query in ("github", "gitlab", "grafana"):
        assert searcher.search(SearchRequest(query)).hits[0].card.name.startswith(query)
    assert len(embedder.asked) == 1


def test_a_query_is_embedded_once_and_one_that_is_still_being_typed_never(judged_store: Store) -> None:
    embedder = Scripted()
    searcher = Searcher(judged_store, embedder=embedder)
    list(searcher.learn())
    embedder.asked = []
    for text in ("send mail", "  Send   MAIL ", "send mail"):
        searcher.search(SearchRequest(text))
    searcher.search(SearchRequest("send ma", prefix=True))
    assert embedder.asked == [["send mail"]]


def test_query_vectors_ask_again_after_a_success() -> None:
    vectors = QueryVectors(embedder := Scripted())
    assert vectors.of("a") is not None
    assert vectors.of("b") is not None
    assert len(embedder.asked) == 2


def test_a_server_that_is_not_there_is_named_with_its_remedy() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        embedder = HttpEmbedder(f"http://127.0.0.1:{s.getsockname()[1]}/v1")
        with pytest.raises(EmbedderUnavailable, match="no embedding model answers"):
            embedder.embed(["x" * SHORTEST])
    embedder.close()


def test_what_shares_no_word_is_shown_only_when_it_is_near() -> None:
    found = np.asarray([2.0, 0.0, 0.0, 1.0], dtype=np.float32)
    near = np.asarray([0.1, 0.8, 0.2, 0.3], dtype=np.float32)
    total = blended(found, 1.0, near)
    assert list(total > 0) == [True, True, False, True]
    assert total.max() <= 1
    assert total.argmax() == 0
    assert list(blended(found, 1.0, np.zeros(4, dtype=np.float32))) == list(found)


def test_where_words_cover_little_of_the_query_nearness_decides() -> None:
    found = np.asarray([2.0, 0.0, 0.0, 1.0], dtype=np.float32)
    near = np.asarray([0.1, 0.8, 0.2, 0.3], dtype=np.float32)
    assert blended(found, 0.3, near).argmax() == 1
