"""A catalog on each database: SQLite in the test's own folder, and a PostgreSQL cluster of the tests' own on a socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import text
from sqlmodel import SQLModel

from catalog.store import Store
from harbourmaster.core.db import make_engine
from harbourmaster.core.settings import Settings

DATABASE = "harbour"


class PostgresCluster:
    """initdb, start on a Unix socket only, stop and remove."""

    def __init__(self, binaries: Path) -> None:
        self.binaries = binaries
        self.home = Path(tempfile.mkdtemp(prefix="hm-pg-"))
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(self.home, "postgres", "postgres")

    def start(self) -> None:
        self._run(
            "initdb",
            "-D",
            f"{self.home}/data",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "-U",
            self.user,
        )
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.home}' -c fsync=off -c full_page_writes=off -c jit=off"
        self._run("pg_ctl", "-D", f"{self.home}/data", "-l", f"{self.home}/log", "-o", options, "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", f"{self.home}/data", "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.home, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql://{self.user}@/{database}?host={quote(str(self.home), safe='')}"

    def create(self, database: str) -> str:
        self._run("createdb", "-h", str(self.home), "-T", "template0", database)
        return self.url(database)

    def _run(self, program: str, *arguments: str) -> None:
        prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        done = subprocess.run(
            [*prefix, str(self.binaries / program), *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql (Debian: apt-get install postgresql)")
    cluster = PostgresCluster(found[-1].parent)
    cluster.start()
    try:
        Store.open(Settings.load(home=cluster.home, database_url=cluster.create(DATABASE))).close()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied: cheaper than migrating for each test."""
    settings = Settings.load(home=tmp_path_factory.mktemp("template"))
    store = Store.open(settings)
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    return settings.database_file


@pytest.fixture
def settings_of_sqlite(home: Path, migrated: Path) -> Settings:
    settings = Settings.load(home=home)
    settings.home.mkdir(parents=True)
    shutil.copy(migrated, settings.database_file)
    return settings


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, home: Path) -> Settings:
    """Settings of an empty, migrated database of each kind."""
    if request.param == "sqlite":
        return request.getfixturevalue("settings_of_sqlite")
    cluster: PostgresCluster = request.getfixturevalue("postgres")
    settings = Settings.load(home=home, database_url=cluster.url(DATABASE))
    _empty(settings)
    return settings


def _empty(settings: Settings) -> None:
    """As after the migrations: cheaper than a database for each test."""
    engine = make_engine(settings)
    tables = [t.name for t in SQLModel.metadata.sorted_tables if t.name.startswith("catalog_")]
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY"))
        connection.execute(text("INSERT INTO catalog_state (id, revision, advisories) VALUES (1, 1, 1)"))
        connection.execute(text("INSERT INTO catalog_registry (name, title) VALUES ('default', 'Everything')"))
    engine.dispose()


@pytest.fixture
def store(database: Settings) -> Iterator[Store]:
    opened = Store.open(database)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(settings_of_sqlite: Settings) -> Iterator[Store]:
    """For behaviour that no database has a part in."""
    opened = Store.open(settings_of_sqlite)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def mcp_registry(shared_data: Path) -> Path:
    place = shared_data / "mcp-registry"
    if not place.is_dir():
        pytest.skip(f"no mcp-registry at {place}")
    return place
