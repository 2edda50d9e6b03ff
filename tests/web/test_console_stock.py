"""What the catalog holds before anybody typed anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from catalog.models import EvidenceFact
from catalog.search.searcher import Searcher, SearchRequest
from catalog.service import add_source, list_sources
from catalog.store import Store
from harbourmaster.cli import main
from harbourmaster.core.settings import Settings
from web.evidence import signed_evidence
from web.stock import SOURCE, Stock, stock_entries, stock_evidence


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    found = Store.open(settings)
    yield found
    found.close()


@pytest.fixture
def console() -> None:
    """None is needed here."""


@pytest.fixture(autouse=True)
def as_it_was_made() -> None:
    """Nothing to put back."""


def test_the_starter_servers_are_stocked_once(store: Store, settings: Settings) -> None:
    stock_entries(store, settings)
    stock_entries(store, settings)
    assert [(s.name, count) for s, count in list_sources(store)] == [(SOURCE, 12)]
    assert stock_evidence(store, settings) == {}  # nothing is built in this home


def test_a_source_of_that_folder_under_another_name_is_used_as_it_is(store: Store, settings: Settings) -> None:
    add_source(store, "harbour", "servers", str(settings.servers_dir))
    stock_entries(store, settings)
    assert [(s.name, count) for s, count in list_sources(store)] == [("harbour", 12)]


def test_nothing_is_read_again_while_nothing_changed(store: Store, settings: Settings) -> None:
    stock = Stock(store, settings)
    stock.refresh()
    stock.wait()
    before = store.revision()
    stock.refresh()
    stock.wait()
    assert store.revision() == before
    settings.lock_file.write_text("{}")  # another process locked something
    stock.refresh()
    stock.wait()
    assert [count for _, count in list_sources(store)] == [12]
    stock.close()


@pytest.mark.slow
def test_what_is_built_here_shows_what_was_verified_about_it(
    store: Store, settings: Settings, built_home: Path | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if built_home is None or not (built_home / "builds.json").is_file():
        pytest.skip("no home with built servers (set HM_TEST_HOME)")
    shutil.copytree(built_home / "keys", settings.keys_dir)
    shutil.copy(built_home / "builds.json", settings.home)
    settings.oci_dir.symlink_to(built_home / "oci")
    stock_entries(store, settings)
    outcome = stock_evidence(store, settings)
    assert outcome["time"] == ""
    page = Searcher(store).search(SearchRequest("time", filters={"evidence": ("signed", "sbom", "provenance")}))
    card = page.hits[0].card
    assert (card.name, card.tools) == ("time", 2)
    with store.reading() as session:
        facts = session.exec(select(EvidenceFact)).all()
    assert {"signature", "sbom", "provenance", "listing"} <= {f.kind for f in facts}
    assert stock_evidence(store, settings) == {name: code for name, code in outcome.items() if code}

    shutil.copy(Path(os.environ["HM_TEST_HOME"]) / "harbour.lock", settings.lock_file)
    statement = signed_evidence(settings, "time")
    (settings.home / "time.json").write_bytes(statement)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["verify", "--offline", str(settings.home / "time.json")])
    assert ended.value.code == 0
    assert "signature" in capsys.readouterr().out
