"""Finding: by words, misspelled words, abbreviations, beginnings; narrowed, counted, sorted, paged; the same on both databases."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from catalog import service
from catalog.errors import QueryInvalid
from catalog.importer import import_offers
from catalog.records import EntryRecord, Finding, Permissions, ToolRecord
from catalog.search.searcher import Searcher, SearchPage, SearchRequest
from catalog.search.tokens import identifier_words, stem, words
from catalog.search.turns import Turns
from catalog.search.typos import distance
from catalog.store import Store
from harbourmaster.core.digests import sha256

# What a query means has nothing to do with the database; test_both_databases_rank_alike compares them.
SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def entry(
    name: str, description: str = "", *, title: str = "", tools: tuple[str, ...] = (), **more: object
) -> EntryRecord:
    values: dict[str, object] = {
        "name": name,
        "title": title or name.replace("-", " ").title(),
        "description": description,
        "kind": "server",
        "category": "other",
        "tier": "community",
        "version": "1",
        "document": name.encode(),
        "media_type": "text/plain",
        "digest": sha256(repr((name, description, tools, more)).encode()),
        "tools": tuple(ToolRecord(t, f"Does {t}", ({"name": "target", "description": "where to"},)) for t in tools),
        **more,
    }
    return EntryRecord(**values)  # type: ignore[arg-type]


READ = {"readOnlyHint": True}
ENTRIES = [
    entry(
        "github",
        "Repositories and pull requests",
        category="developer",
        tier="built",
        licence="MIT",
        publisher="github",
    ),
    entry("github-notes", "Notes about somebody's repositories on GitHub", publisher="someone"),
    entry("kubernetes", "Manage a cluster", category="devops", tools=("list_pods", "delete_pod")),
    entry("postgres", "Query tables with SQL", category="database", tier="built", licence="MIT", tools=("run_query",)),
    entry(
        "mail", "Send messages", title="Gmail", category="communication", permissions=Permissions(secrets=("mail.key",))
    ),
    entry("hackernews", "Stories", title="Hacker News", kind="remote", permissions=Permissions(network="remote")),
    entry("clock", "What time it is", tools=(), permissions=Permissions(network="none")),
    entry("held", "Runs anything", findings=(Finding("image.undigested", "error", "image", "no digest"),)),
    entry("reader", "Looks only", permissions=Permissions(network="none")),
    entry("old-thing", "Once great", status="deprecated"),
]


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    source = service.add_source(store, "made", "mcp-registry", str(tmp_path))
    reader = entry("reader", "Looks only", permissions=Permissions(network="none"))
    tool = ToolRecord("look", "Looks", (), READ)
    records = [r for r in ENTRIES if r.name != "reader"]
    records.append(EntryRecord(**{**{f: getattr(reader, f) for f in EntryRecord.__slots__}, "tools": (tool,)}))
    import_offers(store, source.id or 0, records, complete=True, now=service.utc_now())
    return store


@pytest.fixture
def searcher(filled: Store) -> Searcher:
    return Searcher(filled)


def found(page: SearchPage) -> list[str]:
    return [hit.card.name for hit in page.hits]


def find(searcher: Searcher, text: str, **more: object) -> list[str]:
    return found(searcher.search(SearchRequest(text, **more)))  # type: ignore[arg-type]


@SQLITE
@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("github", "github"),
        ("GitHub", "github"),
        ("gihub", "github"),
        ("githbu", "github"),
        ("k8s", "kubernetes"),
        ("kuberntes", "kubernetes"),
        ("pg", "postgres"),
        ("postgresql", "postgres"),
        ("postgress", "postgres"),
        ("delete pod", "kubernetes"),
        ("deleting pods", "kubernetes"),
        ("hacker news", "hackernews"),
        ("hackernews", "hackernews"),
        ("send an email", "mail"),
        ("gmail", "mail"),
        ("notes about repositories", "github-notes"),
        ("what time is it", "clock"),
        ("developer", "github"),
    ],
)
def test_a_person_finds_what_they_mean(searcher: Searcher, query: str, first: str) -> None:
    assert find(searcher, query)[0] == first


def test_a_word_that_is_still_being_typed_finds_by_its_beginning(searcher: Searcher) -> None:
    assert find(searcher, "kub", prefix=True)[0] == "kubernetes"
    assert find(searcher, "delete p", prefix=True)[0] == "kubernetes"


def test_a_correction_is_told(searcher: Searcher) -> None:
    assert searcher.search(SearchRequest("gihub")).corrected == {"gihub": "github"}
    assert searcher.search(SearchRequest("github")).corrected == {}


def test_the_arguments_of_tools_are_found(searcher: Searcher) -> None:
    assert set(find(searcher, "target")) == {"kubernetes", "postgres"}


def test_what_nobody_has_finds_nothing(searcher: Searcher) -> None:
    page = searcher.search(SearchRequest("xyzzyplugh"))
    assert (page.total, page.hits) == (0, [])


@SQLITE
@pytest.mark.parametrize(
    "query", ["", "   ", "the", "!!!", "a" * 10_000, "\x00", "' OR 1=1 --", '"(*', "日本語", "𝕏" * 50]
)
def test_any_text_is_a_query(searcher: Searcher, query: str) -> None:
    searcher.search(SearchRequest(query, prefix=True))


@SQLITE
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"tier": ("built",)}, {"github", "postgres"}),
        ({"category": ("developer", "database")}, {"github", "postgres"}),
        ({"category": ("developer",), "tier": ("community",)}, set()),
        ({"type": ("remote",)}, {"hackernews"}),
        ({"licence": ("MIT",)}, {"github", "postgres"}),
        ({"permission": ("read-only",)}, {"reader"}),
        ({"state": ("held",)}, {"held"}),
        ({"status": ("deprecated",)}, {"old-thing"}),
        ({"evidence": ("signed",)}, set()),
        ({"source": ("made",)}, {e.name for e in ENTRIES}),
        ({"permission": ("no-network", "read-only")}, {"reader"}),
        ({"tag": ("never",)}, set()),
    ],
)
def test_filters_narrow(searcher: Searcher, filters: dict[str, tuple[str, ...]], expected: set[str]) -> None:
    assert set(find(searcher, "", filters=filters, limit=100)) == expected


def test_no_secrets_leaves_out_what_asks_for_them(searcher: Searcher) -> None:
    assert "mail" not in find(searcher, "", filters={"permission": ("no-secrets",)}, limit=100)


def test_counts_tell_what_each_choice_would_give(searcher: Searcher) -> None:
    page = searcher.search(SearchRequest("repositories"))
    assert page.facets["tier"] == {"built": 1, "community": 1}
    narrowed = searcher.search(SearchRequest("repositories", {"tier": ("built",)}))
    assert narrowed.facets["tier"] == {"built": 1, "community": 1}, "a choice does not hide its alternatives"
    assert narrowed.facets["category"] == {"developer": 1}
    for facet, counts in searcher.search(SearchRequest("")).facets.items():
        for value, number in counts.items():
            assert len(find(searcher, "", filters={facet: (value,)}, limit=100)) == number


def test_pages_join_without_gap_or_twin(searcher: Searcher) -> None:
    for sort in ("relevance", "name", "updated", "tools"):
        everything = find(searcher, "", sort=sort, limit=100)
        paged = [n for offset in range(0, 12, 3) for n in find(searcher, "", sort=sort, offset=offset, limit=3)]
        assert paged == everything
        assert len(everything) == len(ENTRIES)


def test_sorting_by_tools_puts_the_richest_first(searcher: Searcher) -> None:
    assert find(searcher, "", sort="tools")[0] == "kubernetes"


@SQLITE
@pytest.mark.parametrize(
    "request_",
    [
        SearchRequest("x", {"colour": ("red",)}),
        SearchRequest("x", {"tier": ("gold",)}),
        SearchRequest("x", sort="beauty"),
        SearchRequest("x", offset=-1),
        SearchRequest("x", limit=0),
        SearchRequest("x", limit=100_000),
    ],
)
def test_a_search_that_makes_no_sense_says_what_does(searcher: Searcher, request_: SearchRequest) -> None:
    with pytest.raises(QueryInvalid) as caught:
        searcher.search(request_)
    assert caught.value.remedy


def test_a_change_to_the_catalog_is_found_at_once(searcher: Searcher, filled: Store) -> None:
    assert find(searcher, "zanzibar") == []
    with filled.reading() as session:
        source = service.get_source(session, "made")
    import_offers(filled, source.id or 0, [entry("zanzibar", "An island")], complete=False, now=service.utc_now())
    assert find(searcher, "zanzibar") == ["zanzibar"]
    service.remove_source(filled, "made")
    assert find(searcher, "zanzibar") == []


def test_deleted_entries_are_not_found(searcher: Searcher, filled: Store) -> None:
    with filled.reading() as session:
        source = service.get_source(session, "made")
    import_offers(filled, source.id or 0, [entry("github", status="deleted")], complete=False, now=service.utc_now())
    assert "github" not in find(searcher, "github")


def test_of_one_name_in_two_sources_the_first_source_speaks(filled: Store, tmp_path: Path) -> None:
    second = service.add_source(filled, "second", "mcp-registry", str(tmp_path))
    import_offers(
        filled, second.id or 0, [entry("github", "Another one entirely")], complete=True, now=service.utc_now()
    )
    hits = Searcher(filled).search(SearchRequest("github")).hits
    assert (hits[0].card.name, hits[0].card.source) == ("github", "made")
    assert [h.card.name for h in hits].count("github") == 1


def test_a_registry_shows_its_own_sources_only(filled: Store, tmp_path: Path) -> None:
    second = service.add_source(filled, "second", "mcp-registry", str(tmp_path), registry="team")
    import_offers(filled, second.id or 0, [entry("team-thing")], complete=True, now=service.utc_now())
    assert find(Searcher(filled, "team"), "") == ["team-thing"]
    assert "team-thing" not in find(Searcher(filled), "team-thing")


def test_both_databases_rank_alike(filled: Store) -> None:
    """Each database runs this with the same expectation, so that neither may differ."""
    queries = ("github", "repositories", "query", "delete", "send", "stories", "thing")
    ranked = {q: find(Searcher(filled), q) for q in queries}
    assert ranked == {
        "github": ["github", "github-notes"],
        "repositories": ["github", "github-notes"],
        "query": ["postgres"],
        "delete": ["kubernetes"],
        "send": ["mail"],
        "stories": ["hackernews"],
        "thing": ["old-thing"],
    }


def test_many_threads_may_search_while_the_catalog_changes(searcher: Searcher, filled: Store) -> None:
    failures: list[BaseException] = []

    def search() -> None:
        try:
            for _ in range(50):
                assert find(searcher, "github")[0] == "github"
        except BaseException as e:  # a thread's error must reach the test
            failures.append(e)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    with filled.reading() as session:
        source = service.get_source(session, "made")
    for n in range(5):
        import_offers(filled, source.id or 0, [entry(f"extra-{n}")], complete=False, now=service.utc_now())
    for thread in threads:
        thread.join()
    assert failures == []


@SQLITE
def test_whoever_asks_for_the_newest_waits_for_another_thread_that_builds(filled: Store, searcher: Searcher) -> None:
    before = searcher.refresh()
    source = service.add_source(filled, "more", "mcp-registry", "/nowhere")
    import_offers(filled, source.id or 0, [entry("zanzibar", "An island")], complete=False, now=service.utc_now())
    seen: list[int] = []
    waiting = threading.Thread(target=lambda: seen.append(searcher.refresh()))
    with searcher._building:
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        assert "zanzibar" not in find(
            searcher, "zanzibar"
        )  # a search does not wait: it shows what was true a moment ago
    waiting.join()
    assert seen[0] > before
    assert find(searcher, "zanzibar") == ["zanzibar"]


def test_turns_are_taken_in_the_order_of_arrival() -> None:
    turns, order, ready = Turns(), [], threading.Semaphore(0)

    def take(number: int) -> None:
        ready.release()
        with turns:
            order.append(number)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(5)]
    with turns:
        for number, thread in enumerate(threads):
            thread.start()
            ready.acquire()
            while len(turns._waiting) <= number:
                pass
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("queries", "query"),
        ("scraping", "scrape"),
        ("stopped", "stop"),
        ("databases", "database"),
        ("translation", "translate"),
        ("deployment", "deploy"),
        ("classes", "class"),
        ("monitoring", "monitor"),
    ],
)
def test_forms_of_a_word_share_a_stem(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize("word", ["redis", "aws", "status", "s3", "news", "bus"])
def test_names_that_end_like_plurals_are_not_mangled_into_other_words(word: str) -> None:
    assert stem(word) in (word, word[:-1])
    assert stem(stem(word)) == stem(word)


def test_words_are_split_where_people_see_words() -> None:
    assert identifier_words("getPullRequest_v2") == ["get", "pull", "request", "v2"]
    assert words("E-Mails, naïve!") == ["e", "mails", "naive"]


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [("slack", "slak", 1), ("form", "from", 1), ("abc", "abc", 0), ("kitten", "sitting", 3), ("a", "abcdef", 3)],
)
def test_edits_are_counted(a: str, b: str, edits: int) -> None:
    assert distance(a, b, 2) == min(edits, 3)
    assert distance(b, a, 2) == min(edits, 3)
