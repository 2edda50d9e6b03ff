"""A catalog on each database: SQLite in the test's own folder, and a PostgreSQL cluster of the tests' own on a socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from catalog.store import Store
from harbourmaster.core.settings import Settings

TEMPLATE = "harbour_template"


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

    def create(self, database: str, template: str = "template0") -> str:
        self._run("createdb", "-h", str(self.home), "-T", template, database)
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
        url = cluster.create(TEMPLATE)
        Store.open(Settings.load(home=cluster.home, database_url=url)).close()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, home: Path) -> Settings:
    """Settings of an empty, migrated database of each kind."""
    if request.param == "sqlite":
        return Settings.load(home=home)
    cluster: PostgresCluster = request.getfixturevalue("postgres")
    url = cluster.create(f"t{uuid.uuid4().hex}", TEMPLATE)
    return Settings.load(home=home, database_url=url)


@pytest.fixture
def store(database: Settings) -> Iterator[Store]:
    opened = Store.open(database)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(settings: Settings) -> Iterator[Store]:
    """For behaviour that no database has a part in."""
    opened = Store.open(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def mcp_registry(shared_data: Path) -> Path:
    place = shared_data / "mcp-registry"
    if not place.is_dir():
        pytest.skip(f"no mcp-registry at {place}")
    return place
