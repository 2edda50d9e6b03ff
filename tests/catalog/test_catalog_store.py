"""The database: migrated once, the same on both, and honest about what it cannot reach."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel, select

from catalog import service
from catalog.errors import SourceExists, SourceUnknown
from catalog.models import CatalogEntry, RegistrySource, Source
from catalog.store import VERSION_TABLE, Store, is_ours, touch
from harbourmaster.core.db import DatabaseUnavailable, DatabaseUrlInvalid, database_url
from harbourmaster.core.errors import UsageError
from harbourmaster.core.settings import Settings


def test_the_migrations_make_exactly_the_tables_of_the_models(store: Store) -> None:
    with store.engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "include_object": is_ours}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, SQLModel.metadata) == []


def test_opening_again_changes_nothing(store: Store, database: Settings) -> None:
    revision = store.revision()
    again = Store.open(database)
    assert again.revision() == revision
    again.close()


def test_many_processes_may_open_a_new_database_at_once(home: Path) -> None:
    failures: list[BaseException] = []

    def open_it() -> None:
        try:
            Store.open(Settings.load(home=home)).close()
        except BaseException as e:  # a thread's error must reach the test
            failures.append(e)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_foreign_keys_are_enforced(store: Store) -> None:
    with pytest.raises(IntegrityError), store.writing() as session:
        session.add(CatalogEntry(source_id=999, name="x", kind="server", category="other", tier="built"))


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.writing() as session:
        session.add(Source(name="half", kind="mcp-registry", location="/nowhere"))
        touch(session)
        raise RuntimeError
    assert service.list_sources(store) == []
    assert store.revision() == 1


def test_two_writers_both_raise_the_revision(store: Store) -> None:
    def write() -> None:
        for _ in range(5):
            with store.writing() as session:
                touch(session)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.revision() == 11


def test_sqlite_is_in_wal_mode(sqlite_store: Store) -> None:
    with sqlite_store.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"


def test_sources_have_unique_plain_names(store: Store, tmp_path: Path) -> None:
    service.add_source(store, "one", "mcp-registry", str(tmp_path))
    with pytest.raises(SourceExists):
        service.add_source(store, "one", "docker-catalog", str(tmp_path))
    for name in ("", "../up", "Two", "a b"):
        with pytest.raises(UsageError):
            service.add_source(store, name, "mcp-registry", str(tmp_path))
    with pytest.raises(UsageError, match="kind"):
        service.add_source(store, "two", "floppy", str(tmp_path))
    with pytest.raises(SourceUnknown, match="three"):
        service.remove_source(store, "three")


def test_a_source_can_be_in_two_registries(store: Store, tmp_path: Path) -> None:
    source = service.add_source(store, "one", "mcp-registry", str(tmp_path))
    service.show_in(store, "team", "one")
    with store.reading() as session:
        assert len(session.exec(select(RegistrySource).where(RegistrySource.source_id == source.id)).all()) == 2


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "sqlite3://"])
def test_other_databases_are_refused_with_a_remedy(url: str, home: Path) -> None:
    with pytest.raises(DatabaseUrlInvalid) as caught:
        database_url(Settings.load(home=home, database_url=url))
    assert caught.value.remedy


def test_a_database_that_does_not_answer_is_named_without_its_password(home: Path, tmp_path: Path) -> None:
    url = f"postgresql://me:hunter2@/nothing?host={tmp_path}"
    with pytest.raises(DatabaseUnavailable) as caught:
        Store.open(Settings.load(home=home, database_url=url))
    assert "hunter2" not in str(caught.value.as_dict())
