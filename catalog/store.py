"""The catalog's database: opened, migrated, and its revision raised with every change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlmodel import Session, select

from catalog.models import CatalogState
from harbourmaster.core.db import explained, is_postgresql, make_engine, table_exists, transaction
from harbourmaster.core.files import file_lock
from harbourmaster.core.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "catalog_schema"
MIGRATION_LOCK = 0x686D6361  # a PostgreSQL advisory lock of our own choosing: two processes never migrate at once
HEAD = "0002"


class Store:
    """Hands out sessions; made once per process.

    >>> store = Store.open(settings)
    >>> with store.writing() as session: ...
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.writes = 0
        """Transactions that this store has finished: a cheap sign that something may have changed."""

    @classmethod
    def open(cls, settings: Settings) -> Store:
        engine = make_engine(settings)
        if is_postgresql(engine):
            _migrate_if_old(engine)
        else:
            with file_lock(settings.database_file.with_suffix(".db.migrate.lock")):
                _migrate_if_old(engine)
        return cls(engine)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        with explained(self.engine), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction; the caller says with ``touch`` that it changed what people can find."""
        try:
            with transaction(self.engine) as session:
                yield session
        finally:
            self.writes += 1

    def revision(self) -> int:
        with explained(self.engine), self.engine.connect() as connection:
            return int(connection.execute(text("SELECT revision FROM catalog_state")).scalar_one())

    def close(self) -> None:
        self.engine.dispose()


def touch(session: Session, *, advisories: bool = False) -> int:
    """Raise the catalog's revision inside the caller's transaction and return it."""
    state = session.exec(select(CatalogState).with_for_update()).one()
    state.revision += 1
    if advisories:
        state.advisories = state.revision
    session.add(state)
    session.flush()
    return state.revision


def migrate(connection: Connection, revision: str = "head") -> None:
    from alembic import command  # a fifth of a second: only for those who need it
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def is_ours(_thing: Any, name: str | None, kind: str, _reflected: bool, _compare: Any) -> bool:
    """Whether Alembic may look at a table: other packages keep theirs in the same database."""
    return kind != "table" or (name is not None and name.startswith("catalog_") and name != VERSION_TABLE)


def _migrate_if_old(engine: Engine) -> None:
    if _version(engine) == HEAD:
        return
    with explained(engine), engine.begin() as connection:
        if is_postgresql(engine):
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        migrate(connection)


def _version(engine: Engine) -> str | None:
    if not table_exists(engine, VERSION_TABLE):
        return None
    with engine.connect() as connection:
        found = connection.execute(text("SELECT version_num FROM catalog_schema")).scalar()
    return None if found is None else str(found)
