from pathlib import Path

from sqlmodel import select

from catalog import service
from catalog.models import Source
from catalog.search.searcher import Searcher, SearchRequest
from catalog.store import Store
from catalog.upkeep import Upkeep
from harbourmaster.core.settings import Settings

ENTRY = """\
name: {name}
type: server
image: example/{name}@sha256:{digest}
meta: {{category: productivity}}
about: {{title: {name}, description: keeps a record}}
source: {{project: https://example.com/{name}, commit: {commit}}}
"""


def folder(root: Path, *names: str) -> Path:
    for name in names:
        place = root / "servers" / name
        place.mkdir(parents=True)
        (place / "server.yaml").write_text(ENTRY.format(name=name, digest="a" * 64, commit="b" * 40))
    return root


def names(searcher: Searcher) -> list[str]:
    return [hit.card.name for hit in searcher.search(SearchRequest()).hits]


def test_a_round_reads_what_is_due_and_nothing_else(sqlite_store: Store, settings: Settings, tmp_path: Path) -> None:
    searcher = Searcher(sqlite_store)
    upkeep = Upkeep(sqlite_store, settings, searcher)
    service.add_source(sqlite_store, "team", "mcp-registry", str(folder(tmp_path / "team", "ledger")))
    upkeep.step()
    assert names(searcher) == ["ledger"]

    folder(tmp_path / "team", "logbook")
    upkeep.step()  # read a moment ago: not due for an hour
    assert names(searcher) == ["ledger"]


def test_a_source_that_fails_waits_longer_each_time_and_stops_no_other(
    sqlite_store: Store, settings: Settings, tmp_path: Path
) -> None:
    service.add_source(sqlite_store, "absent", "mcp-registry", str(tmp_path / "nothing-here"))
    service.add_source(sqlite_store, "team", "mcp-registry", str(folder(tmp_path / "team", "ledger")))
    searcher = Searcher(sqlite_store)
    Upkeep(sqlite_store, settings, searcher).step()
    assert names(searcher) == ["ledger"]
    with sqlite_store.reading() as session:
        absent = session.exec(select(Source).where(Source.name == "absent")).one()
    assert absent.last_error.startswith("source.unreadable")
    assert absent.attempts == 1
    assert absent.next_attempt_at > service.utc_now()


def test_it_runs_beside_a_server_and_ends_with_it(sqlite_store: Store, settings: Settings, tmp_path: Path) -> None:
    service.add_source(sqlite_store, "team", "mcp-registry", str(folder(tmp_path / "team", "ledger")))
    searcher = Searcher(sqlite_store)
    with Upkeep(sqlite_store, settings, searcher) as upkeep:
        while names(searcher) != ["ledger"]:
            assert upkeep._thread.is_alive()
    assert not upkeep._thread.is_alive()
