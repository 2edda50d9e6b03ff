"""Fixtures every package may use."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from harbourmaster.core.settings import Settings
from tests.fixtures.lent import lend, named_home

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    # A developer's own HM_* settings must not steer the tests; HM_TEST_* and HM_SHARED_DATA are meant for them.
    for name in list(os.environ):
        if name.startswith("HM_") and not name.startswith(("HM_TEST_", "HM_SHARED_", "HM_VENV", "HM_ENGINE_URL")):
            del os.environ[name]
    # Nor may a test that names no home meet that person's own, which may be serving.
    nobodys = tempfile.TemporaryDirectory(prefix="hm-tests-")
    config.add_cleanup(nobodys.cleanup)
    os.environ["HM_HOME"] = str(Path(nobodys.name) / "harbour")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HM_HOME of this test's own, also for the processes it starts."""
    place = tmp_path / "harbour"
    monkeypatch.setenv("HM_HOME", str(place))
    return place


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.load(home=home)


@pytest.fixture(scope="session")
def built_home(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """What ``HM_TEST_HOME`` has built, for all tests that run it and change none of it; None where that is not set."""
    named = named_home()
    if named is None:
        return None
    place = tmp_path_factory.mktemp("lent") / "harbour"
    lend(named, place)
    return place


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public data beside the project (not part of it); its tests are skipped where it is absent."""
    place = Path(os.environ.get("HM_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not place.is_dir():
        pytest.skip(f"no public test data at {place} (set HM_SHARED_DATA)")
    return place
