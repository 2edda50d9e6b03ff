"""The database: SQLite in HM_HOME by default, PostgreSQL by URL.  Tables and migrations belong to the packages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlmodel import Session

from harbourmaster.core.errors import ConfigError, UnavailableError
from harbourmaster.core.files import make_private_dir
from harbourmaster.core.settings import Settings

BUSY_TIMEOUT_MS = (
    10_000  # how long a writer waits for another process's transaction (sqlite.org/pragma.html#pragma_busy_timeout)
)
CONNECT_TIMEOUT_S = 10


class DatabaseUrlInvalid(ConfigError):
    code = "database.url"


class DatabaseUnavailable(UnavailableError):
    code = "database.unavailable"


def database_url(settings: Settings) -> URL:
    """The SQLAlchemy URL of ``settings``; ``postgres://`` and ``postgresql://`` both mean psycopg 3."""
    if not settings.database_url:
        return URL.create("sqlite", database=str(settings.database_file))
    try:
        url = make_url(settings.database_url)
    except ArgumentError as e:
        raise DatabaseUrlInvalid(
            "HM_DATABASE_URL is not a database URL", remedy="write postgresql://user@host/name"
        ) from e
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername in ("postgresql+psycopg", "sqlite"):
        return url
    raise DatabaseUrlInvalid(
        f"no support for {url.drivername} databases",
        remedy="use postgresql:// or leave HM_DATABASE_URL empty for SQLite",
    )


def make_engine(settings: Settings) -> Engine:
    """An engine with a small pool; creates HM_HOME for SQLite, connects to nothing yet."""
    url = database_url(settings)
    if url.get_backend_name() == "sqlite":
        make_private_dir(settings.home)
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": CONNECT_TIMEOUT_S})


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN would be too late for a read-then-write transaction
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")  # safe with WAL: a crash loses no consistency (sqlite.org/wal.html)
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    # A transaction that reads first and then writes would fail at once where another wrote in between: take the turn to
    # write at the beginning, where busy_timeout waits for it (sqlite.org/lang_transaction.html).
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """A session whose work is committed on a clean exit and rolled back otherwise."""
    writer = engine.execution_options(writes=True)
    with explained(engine), Session(writer, expire_on_commit=False) as session, session.begin():
        yield session


@contextlib.contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """Turn a refused or lost connection into a typed error that names the database and not its password."""
    try:
        yield
    except DBAPIError as e:
        if not (e.connection_invalidated or _is_connection_failure(e) or _is_locked(e)):
            raise
        where = engine.url.render_as_string(hide_password=True)
        why = (str(e.orig).strip().splitlines() or [type(e.orig).__name__])[0]
        remedy = "check HM_DATABASE_URL and that the server runs"
        if _is_locked(e):
            remedy = "another process holds it: wait until it is done, or end it"
        raise DatabaseUnavailable(f"the database {where} does not answer: {why}", remedy=remedy) from e


def _is_connection_failure(error: DBAPIError) -> bool:
    words = str(error.orig).lower()
    return any(w in words for w in ("connection", "could not translate host", "unable to open database"))


def _is_locked(error: DBAPIError) -> bool:
    """SQLITE_BUSY and SQLITE_LOCKED (sqlite.org/rescode.html), after ``BUSY_TIMEOUT_MS``."""
    words = str(error.orig).lower()
    return "database is locked" in words or "database table is locked" in words


def is_postgresql(engine: Engine) -> bool:
    return engine.url.get_backend_name() == "postgresql"


def table_exists(engine: Engine, name: str) -> bool:
    query = (
        "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = :name"
        if is_postgresql(engine)
        else "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name"
    )
    with explained(engine), engine.connect() as connection:
        return connection.execute(text(query), {"name": name}).first() is not None
