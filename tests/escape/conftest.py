"""A gateway with the hostile server behind it, a well-behaved neighbour that is timed meanwhile, and the report."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harbourmaster.core.settings import Settings
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.reaper import ALL, reap
from tests.escape.caller import Caller
from tests.escape.image import NAME, build_hostile_image
from tests.fixtures.images import build_echo_image, remove_loaded

ROOT = Path(__file__).resolve().parents[2]
Row = tuple[str, str, str]
Note = Callable[[str, str, str], None]  # what was tried, what stopped it, what was observed
ROWS = pytest.StashKey[list[Row]]()
WIDTHS = (58, 46)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []
    config.addinivalue_line("markers", "after_all: runs when all other tests are over")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The neighbour is judged when all else is over."""
    items.sort(key=lambda item: item.get_closest_marker("after_all") is not None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[ROWS]
    if rows:
        terminalreporter.section("escape set")
    for tried, wall, observed in rows:
        terminalreporter.line(f"{tried:<{WIDTHS[0]}}  {wall:<{WIDTHS[1]}}  {observed}")


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Adds a line to the report."""
    rows = request.config.stash[ROWS]
    return lambda tried, wall, observed: rows.append((tried, wall, observed))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("harbour")


@pytest.fixture(scope="session")
def engine(place: Path) -> Iterator[Engine]:
    engine = Engine.connect(Settings.load(home=place))
    yield engine
    reap(engine, owner=ALL)
    remove_loaded(engine, NAME)
    engine.close()


@pytest.fixture
def docker_words(engine: Engine) -> None:
    if engine.info().name == "podman":
        pytest.skip("Podman says and reports its settings in other words; the escape set itself runs there")


@pytest.fixture(scope="session")
def profile() -> Profile:
    return Profile.load()


@pytest.fixture(scope="session")
def hostile_image(engine: Engine) -> str:
    return build_hostile_image(engine)


@pytest.fixture(scope="session")
def echo_image(engine: Engine) -> str:
    return build_echo_image(engine)


@dataclass(frozen=True)
class Harbour:
    process: subprocess.Popen[str]
    url: str
    token: str
    home: Path

    def session(self) -> Caller:
        return Caller(self.url, self.token)


def program(module: str, *arguments: str, home: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"HM_HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="session")
def harbour(engine: Engine, hostile_image: str, echo_image: str, place: Path) -> Iterator[Harbour]:
    with program("tests.escape.harbour", hostile_image, echo_image, home=place) as process:
        try:
            assert process.stdout is not None
            url, token = process.stdout.readline().split()
            yield Harbour(process, url, token, place)
        finally:
            process.terminate()


@dataclass
class Neighbour:
    process: subprocess.Popen[str]
    usual_ms: float
    busy: bool  # the machine, with other things, before the first attempt

    def finish(self) -> tuple[float, float, int]:
        """Median and worst milliseconds beside the escape set, and how many calls; sets ``usual_ms`` to the larger of
        before and after, because a machine that tests has other work too."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        median, worst, calls, after = self.process.stdout.readline().split()[1:]
        self.usual_ms = max(self.usual_ms, float(after))
        return float(median), float(worst), int(calls)


@pytest.fixture(scope="session")
def neighbour(harbour: Harbour) -> Iterator[Neighbour]:
    with program("tests.escape.neighbour", harbour.url, harbour.token, home=harbour.home) as process:
        try:
            assert process.stdout is not None
            busy = os.getloadavg()[0] > (os.cpu_count() or 1)
            yield Neighbour(process, float(process.stdout.readline().split()[1]), busy)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def hostile(harbour: Harbour, neighbour: Neighbour) -> Iterator[Caller]:
    """A session whose sandbox survives the attempts made in it."""
    with harbour.session() as caller:
        yield caller


@pytest.fixture
def doomed(harbour: Harbour, neighbour: Neighbour) -> Iterator[Caller]:
    """A session, and so a sandbox, of this test's own."""
    with harbour.session() as caller:
        yield caller
